// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {Managed} from "./Managed.sol";

/// Deposits and reserves of senders, and how they leave. Source: payments.md 3.2 and 5.2.
abstract contract Reserves is Managed {
    struct Sender {
        uint256 deposit;
        uint256 withdrawRound;
    }

    struct ReserveInfo {
        uint256 fundsRemaining;
        uint256 claimedInCurrentRound;
    }

    struct Reserve {
        uint256 funds;
        mapping(uint256 => uint256) claimedForRound;
        mapping(uint256 => mapping(address => uint256)) claimedByAddress;
    }

    uint256 public unlockPeriod = 2;
    mapping(address => Sender) internal senders;
    mapping(address => Reserve) internal reserves;

    event DepositFunded(address indexed sender, uint256 amount);
    event ReserveFunded(address indexed reserveHolder, uint256 amount);
    event ReserveClaimed(address indexed reserveHolder, address claimant, uint256 amount);
    event Unlock(address indexed sender, uint256 startRound, uint256 endRound);
    event UnlockCancelled(address indexed sender);
    event Withdrawal(address indexed sender, uint256 deposit, uint256 reserve);

    function fundDeposit() external payable whenSystemNotPaused {
        addDeposit(msg.sender, msg.value);
        minter().depositETH{value: msg.value}();
    }

    function fundReserve() external payable whenSystemNotPaused {
        addReserve(msg.sender, msg.value);
        minter().depositETH{value: msg.value}();
    }

    function fundDepositAndReserve(uint256 deposit, uint256 reserve) external payable {
        fundDepositAndReserveFor(msg.sender, deposit, reserve);
    }

    function fundDepositAndReserveFor(address sender, uint256 deposit, uint256 reserve)
        public
        payable
        whenSystemNotPaused
    {
        require(
            msg.value == deposit + reserve, "msg.value does not equal sum of deposit amount and reserve amount"
        );
        addDeposit(sender, deposit);
        addReserve(sender, reserve);
        minter().depositETH{value: msg.value}();
    }

    function unlock() external whenSystemNotPaused {
        Sender storage sender = senders[msg.sender];
        require(
            sender.deposit > 0 || reserves[msg.sender].funds > 0,
            "sender deposit and reserve are zero"
        );
        require(sender.withdrawRound == 0, "unlock already initiated");
        uint256 round = roundsManager().currentRound();
        sender.withdrawRound = round + unlockPeriod;
        emit Unlock(msg.sender, round, sender.withdrawRound);
    }

    function cancelUnlock() external whenSystemNotPaused {
        require(senders[msg.sender].withdrawRound != 0, "no unlock request in progress");
        endUnlock(msg.sender);
    }

    /// The round of the unlock stays, as on the real chain.
    function withdraw() external whenSystemNotPaused {
        Sender storage sender = senders[msg.sender];
        uint256 deposit = sender.deposit;
        uint256 reserve = reserves[msg.sender].funds;
        require(deposit > 0 || reserve > 0, "sender deposit and reserve are zero");
        require(sender.withdrawRound != 0, "no unlock request in progress");
        require(!isLocked(sender), "account is locked");
        sender.deposit = 0;
        reserves[msg.sender].funds = 0;
        minter().trustedWithdrawETH(payable(msg.sender), deposit + reserve);
        emit Withdrawal(msg.sender, deposit, reserve);
    }

    function getSenderInfo(address sender)
        external
        view
        returns (Sender memory, ReserveInfo memory)
    {
        return (senders[sender], getReserveInfo(sender));
    }

    function getReserveInfo(address holder) public view returns (ReserveInfo memory) {
        Reserve storage reserve = reserves[holder];
        uint256 round = roundsManager().currentRound();
        return ReserveInfo(reserve.funds, reserve.claimedForRound[round]);
    }

    function isUnlockInProgress(address sender) external view returns (bool) {
        return senders[sender].withdrawRound != 0;
    }

    function claimedReserve(address holder, address claimant) external view returns (uint256) {
        return reserves[holder].claimedByAddress[roundsManager().currentRound()][claimant];
    }

    function claimableReserve(address holder, address claimant) public view returns (uint256) {
        uint256 poolSize = bondingManager().getTranscoderPoolSize();
        if (poolSize == 0 || !bondingManager().isActiveTranscoder(claimant)) return 0;
        Reserve storage reserve = reserves[holder];
        uint256 round = roundsManager().currentRound();
        uint256 share = (reserve.funds + reserve.claimedForRound[round]) / poolSize;
        return share - reserve.claimedByAddress[round][claimant];
    }

    function claimFromReserve(address holder, address claimant, uint256 wanted)
        internal
        returns (uint256 amount)
    {
        uint256 claimable = claimableReserve(holder, claimant);
        amount = wanted < claimable ? wanted : claimable;
        if (amount > 0) {
            uint256 round = roundsManager().currentRound();
            Reserve storage reserve = reserves[holder];
            reserve.claimedForRound[round] += amount;
            reserve.claimedByAddress[round][claimant] += amount;
            reserve.funds -= amount;
            emit ReserveClaimed(holder, claimant, amount);
        }
    }

    function isLocked(Sender storage sender) internal view returns (bool) {
        return sender.withdrawRound == 0 || roundsManager().currentRound() < sender.withdrawRound;
    }

    function addDeposit(address sender, uint256 amount) private {
        senders[sender].deposit += amount;
        endOwnUnlock(sender);
        emit DepositFunded(sender, amount);
    }

    function addReserve(address holder, uint256 amount) private {
        reserves[holder].funds += amount;
        endOwnUnlock(holder);
        emit ReserveFunded(holder, amount);
    }

    /// Who adds funds of its own wants to go on; who funds somebody else decides nothing for them.
    function endOwnUnlock(address sender) private {
        if (sender == msg.sender && senders[sender].withdrawRound != 0) endUnlock(sender);
    }

    function endUnlock(address sender) private {
        senders[sender].withdrawRound = 0;
        emit UnlockCancelled(sender);
    }
}
