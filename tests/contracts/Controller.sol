// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

/// Names the other contracts and can stop them. Source: payments.md 5.1.
contract Controller {
    address public owner;
    bool public paused;
    mapping(bytes32 => address) private contracts;

    event SetContractInfo(bytes32 id, address contractAddress, bytes20 gitCommitHash);

    modifier onlyOwner() {
        require(msg.sender == owner, "Ownable: caller is not the owner");
        _;
    }

    constructor() {
        owner = msg.sender;
    }

    function setContractInfo(bytes32 id, address contractAddress, bytes20 gitCommitHash)
        external
        onlyOwner
    {
        contracts[id] = contractAddress;
        emit SetContractInfo(id, contractAddress, gitCommitHash);
    }

    function getContract(bytes32 id) external view returns (address) {
        return contracts[id];
    }

    function pause() external onlyOwner {
        paused = true;
    }

    function unpause() external onlyOwner {
        paused = false;
    }
}
