// SPDX-License-Identifier: MIT
pragma solidity ^0.8.20;

import {Controller} from "./Controller.sol";
import {Managed} from "./Managed.sol";
import {Reserves} from "./Reserves.sol";

/// Redeems winning tickets. The checks and their order are those of payments.md 5.2.
contract TicketBroker is Reserves {
    struct Ticket {
        address recipient;
        address sender;
        uint256 faceValue;
        uint256 winProb;
        uint256 senderNonce;
        bytes32 recipientRandHash;
        bytes auxData;
    }

    uint256 private constant HALF_ORDER =
        0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    uint256 public ticketValidityPeriod = 2;
    mapping(bytes32 => bool) public usedTickets;

    event WinningTicketTransfer(address indexed sender, address indexed recipient, uint256 amount);
    event WinningTicketRedeemed(
        address indexed sender,
        address indexed recipient,
        uint256 faceValue,
        uint256 winProb,
        uint256 senderNonce,
        uint256 recipientRand,
        bytes auxData
    );
    event ParameterUpdate(string param);

    constructor(Controller controller_) Managed(controller_) {}

    function setTicketValidityPeriod(uint256 rounds) external onlyControllerOwner {
        ticketValidityPeriod = rounds;
        emit ParameterUpdate("ticketValidityPeriod");
    }

    function batchRedeemWinningTickets(
        Ticket[] memory tickets,
        bytes[] memory sigs,
        uint256[] memory recipientRands
    ) external whenSystemNotPaused onlyInInitializedRound {
        for (uint256 i = 0; i < tickets.length; i++) {
            // One ticket's failure is not the batch's.
            try this.redeemWinningTicket(tickets[i], sigs[i], recipientRands[i]) {} catch {}
        }
    }

    function redeemWinningTicket(Ticket memory ticket, bytes memory sig, uint256 recipientRand)
        external
        whenSystemNotPaused
        onlyInInitializedRound
    {
        bytes32 ticketHash = getTicketHash(ticket);
        uint256 creationRound = requireWinning(ticket, ticketHash, sig, recipientRand);

        Sender storage sender = senders[ticket.sender];
        require(isLocked(sender), "sender is unlocked");
        require(
            sender.deposit > 0 || reserves[ticket.sender].funds > 0,
            "sender deposit and reserve are zero"
        );
        usedTickets[ticketHash] = true;

        uint256 amount;
        if (ticket.faceValue > sender.deposit) {
            amount = sender.deposit
                + claimFromReserve(
                    ticket.sender, ticket.recipient, ticket.faceValue - sender.deposit
                );
            sender.deposit = 0;
        } else {
            amount = ticket.faceValue;
            sender.deposit -= amount;
        }
        if (amount > 0) {
            bondingManager().updateTranscoderWithFees(ticket.recipient, amount, creationRound);
            emit WinningTicketTransfer(ticket.sender, ticket.recipient, amount);
        }
        emit WinningTicketRedeemed(
            ticket.sender,
            ticket.recipient,
            ticket.faceValue,
            ticket.winProb,
            ticket.senderNonce,
            recipientRand,
            ticket.auxData
        );
    }

    function getTicketHash(Ticket memory ticket) public pure returns (bytes32) {
        return keccak256(
            abi.encodePacked(
                ticket.recipient,
                ticket.sender,
                ticket.faceValue,
                ticket.winProb,
                ticket.senderNonce,
                ticket.recipientRandHash,
                ticket.auxData
            )
        );
    }

    function requireWinning(
        Ticket memory ticket,
        bytes32 ticketHash,
        bytes memory sig,
        uint256 recipientRand
    ) private view returns (uint256 creationRound) {
        require(ticket.recipient != address(0), "ticket recipient is null address");
        require(ticket.sender != address(0), "ticket sender is null address");
        creationRound = requireUnexpired(ticket.auxData);
        require(
            keccak256(abi.encodePacked(recipientRand)) == ticket.recipientRandHash,
            "recipientRand does not match recipientRandHash"
        );
        require(!usedTickets[ticketHash], "ticket is used");
        require(signerOf(ticketHash, sig) == ticket.sender, "invalid signature over ticket hash");
        require(
            uint256(keccak256(abi.encodePacked(sig, recipientRand))) < ticket.winProb,
            "ticket did not win"
        );
    }

    function requireUnexpired(bytes memory auxData) private view returns (uint256 creationRound) {
        require(auxData.length == 64, "invalid length for ticket auxData: must be 64 bytes");
        bytes32 stated;
        (creationRound, stated) = abi.decode(auxData, (uint256, bytes32));
        bytes32 actual = roundsManager().blockHashForRound(creationRound);
        require(actual != bytes32(0), "ticket creationRound does not have a block hash");
        require(
            stated == actual, "ticket creationRoundBlockHash invalid for creationRound"
        );
        require(
            creationRound + ticketValidityPeriod > roundsManager().currentRound(),
            "ticket is expired"
        );
    }

    function signerOf(bytes32 ticketHash, bytes memory sig) private pure returns (address signer) {
        require(sig.length == 65, "INVALID_SIGNATURE_LENGTH");
        bytes32 r;
        bytes32 s;
        assembly {
            r := mload(add(sig, 32))
            s := mload(add(sig, 64))
        }
        uint8 v = uint8(sig[64]);
        require(uint256(s) <= HALF_ORDER, "ECDSA: invalid signature 's' value");
        require(v == 27 || v == 28, "ECDSA: invalid signature 'v' value");
        bytes32 digest =
            keccak256(abi.encodePacked("\x19Ethereum Signed Message:\n32", ticketHash));
        signer = ecrecover(digest, v, r, s);
        require(signer != address(0), "ECDSA: invalid signature");
    }
}
