// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {Controller} from "./Controller.sol";
import {Managed} from "./Managed.sol";

/// Who transcodes, and the fees they earned. Stake is given by the owner instead of being bonded.
/// Source: payments.md 5.4.
contract BondingManager is Managed {
    uint256 private constant NEVER = type(uint256).max;

    struct Transcoder {
        uint256 lastRewardRound;
        uint256 rewardCut;
        uint256 feeShare;
        uint256 lastActiveStakeUpdateRound;
        uint256 activationRound;
        uint256 deactivationRound;
        uint256 activeCumulativeRewards;
        uint256 cumulativeRewards;
        uint256 cumulativeFees;
        uint256 lastFeeRound;
    }

    mapping(address => Transcoder) private transcoders;
    mapping(address => uint256) private stakes;
    mapping(address => uint256) private fees;
    address[] private pool;

    event TranscoderActivated(address indexed transcoder, uint256 activationRound);
    event TranscoderDeactivated(address indexed transcoder, uint256 deactivationRound);
    event TranscoderUpdate(address indexed transcoder, uint256 rewardCut, uint256 feeShare);
    event Reward(address indexed transcoder, uint256 amount);
    event WithdrawFees(address indexed delegator, address recipient, uint256 amount);

    constructor(Controller controller_) Managed(controller_) {}

    /// Test control: stands for bonding enough stake to enter the pool in the next round.
    function activate(address transcoder_, uint256 stake) external onlyControllerOwner {
        require(stake > 0 && stakes[transcoder_] == 0, "stake must be new and positive");
        uint256 round = roundsManager().currentRound() + 1;
        stakes[transcoder_] = stake;
        Transcoder storage record = transcoders[transcoder_];
        record.activationRound = round;
        record.deactivationRound = NEVER;
        record.lastActiveStakeUpdateRound = round;
        pool.push(transcoder_);
        emit TranscoderActivated(transcoder_, round);
    }

    /// Test control: stands for losing the place in the pool from the next round on.
    function deactivate(address transcoder_) external onlyControllerOwner {
        uint256 round = roundsManager().currentRound() + 1;
        transcoders[transcoder_].deactivationRound = round;
        for (uint256 i = 0; i < pool.length; i++) {
            if (pool[i] == transcoder_) {
                pool[i] = pool[pool.length - 1];
                pool.pop();
                break;
            }
        }
        emit TranscoderDeactivated(transcoder_, round);
    }

    function transcoder(uint256 rewardCut, uint256 feeShare)
        external
        whenSystemNotPaused
        onlyInInitializedRound
    {
        require(!roundsManager().currentRoundLocked(), "can't update transcoder params, current round is locked");
        require(isRegisteredTranscoder(msg.sender), "transcoder must be registered");
        transcoders[msg.sender].rewardCut = rewardCut;
        transcoders[msg.sender].feeShare = feeShare;
        emit TranscoderUpdate(msg.sender, rewardCut, feeShare);
    }

    function reward() external {
        rewardWithHint(address(0), address(0));
    }

    function rewardWithHint(address, address) public whenSystemNotPaused onlyInInitializedRound {
        uint256 round = roundsManager().currentRound();
        require(isActiveTranscoder(msg.sender), "caller must be an active transcoder");
        Transcoder storage record = transcoders[msg.sender];
        require(record.lastRewardRound != round, "caller has already called reward for the current round");
        record.lastRewardRound = round;
        uint256 amount = minter().currentMintableTokens() * stakes[msg.sender] / getTotalBonded();
        record.cumulativeRewards += amount;
        emit Reward(msg.sender, amount);
    }

    function updateTranscoderWithFees(address transcoder_, uint256 amount, uint256)
        external
        whenSystemNotPaused
    {
        require(msg.sender == addressOf("TicketBroker"), "caller must be TicketBroker");
        require(isRegisteredTranscoder(transcoder_), "transcoder must be registered");
        Transcoder storage record = transcoders[transcoder_];
        record.cumulativeFees += amount;
        record.lastFeeRound = roundsManager().currentRound();
        fees[transcoder_] += amount;
    }

    function withdrawFees(address payable recipient, uint256 amount)
        external
        whenSystemNotPaused
        onlyInInitializedRound
    {
        require(recipient != address(0), "invalid recipient");
        require(fees[msg.sender] >= amount, "insufficient fees to withdraw");
        fees[msg.sender] -= amount;
        minter().trustedWithdrawETH(recipient, amount);
        emit WithdrawFees(msg.sender, recipient, amount);
    }

    function pendingFees(address delegator, uint256) external view returns (uint256) {
        return fees[delegator];
    }

    function isActiveTranscoder(address transcoder_) public view returns (bool) {
        uint256 round = roundsManager().currentRound();
        Transcoder storage record = transcoders[transcoder_];
        return record.activationRound <= round && round < record.deactivationRound;
    }

    function isRegisteredTranscoder(address transcoder_) public view returns (bool) {
        return stakes[transcoder_] > 0;
    }

    function getTranscoder(address transcoder_) external view returns (Transcoder memory) {
        return transcoders[transcoder_];
    }

    function transcoderTotalStake(address transcoder_) external view returns (uint256) {
        return stakes[transcoder_];
    }

    function getTotalBonded() public view returns (uint256 total) {
        for (uint256 i = 0; i < pool.length; i++) {
            total += stakes[pool[i]];
        }
    }

    function getTranscoderPoolSize() external view returns (uint256) {
        return pool.length;
    }

    function getTranscoderPoolMaxSize() external pure returns (uint256) {
        return 100;
    }

    function getFirstTranscoderInPool() external view returns (address) {
        return pool.length == 0 ? address(0) : pool[0];
    }

    function getNextTranscoderInPool(address transcoder_) external view returns (address) {
        for (uint256 i = 0; i + 1 < pool.length; i++) {
            if (pool[i] == transcoder_) return pool[i + 1];
        }
        return address(0);
    }
}
