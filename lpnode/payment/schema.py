"""The tables of the payment store, as the steps that lead to them.

A step that has been released is never changed: a store in the field has run it. Money is text,
``numerator/denominator`` of wei; 256-bit numbers are 32 big-endian bytes; times are seconds since
the epoch.
"""

import sqlite3

from lpnode.errors import ConfigError

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # Facts about the store as a whole.
        "CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
        # Keys that sign or bind; the newest of a name is in use, older ones only verify.
        """CREATE TABLE secrets (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL, value BLOB NOT NULL,
            created_at REAL NOT NULL, expiration_block INTEGER)""",
        # One row for each recipient rand that was paid with, until its parameters have expired.
        """CREATE TABLE params (
            id INTEGER PRIMARY KEY, rand_hash BLOB NOT NULL UNIQUE,
            expiration_block INTEGER NOT NULL)""",
        "CREATE INDEX params_by_expiration ON params (expiration_block)",
        """CREATE TABLE nonces (
            params_id INTEGER NOT NULL REFERENCES params ON DELETE CASCADE,
            nonce INTEGER NOT NULL,
            PRIMARY KEY (params_id, nonce)) WITHOUT ROWID""",
        """CREATE TABLE balances (
            sender BLOB NOT NULL, manifest_id TEXT NOT NULL, amount TEXT NOT NULL,
            used_at REAL NOT NULL,
            PRIMARY KEY (sender, manifest_id)) WITHOUT ROWID""",
        # The ledger: job → work units, payment → tickets → redemption.
        """CREATE TABLE jobs (
            id INTEGER PRIMARY KEY, sender BLOB NOT NULL, manifest_id TEXT NOT NULL,
            capability INTEGER NOT NULL, model_id TEXT NOT NULL, price TEXT NOT NULL,
            opened_at REAL NOT NULL, closed_at REAL, close_reason TEXT)""",
        "CREATE INDEX jobs_by_manifest ON jobs (manifest_id)",
        """CREATE TABLE debits (
            job_id INTEGER NOT NULL REFERENCES jobs, day TEXT NOT NULL,
            units INTEGER NOT NULL, fee TEXT NOT NULL,
            PRIMARY KEY (job_id, day)) WITHOUT ROWID""",
        """CREATE TABLE payments (
            id INTEGER PRIMARY KEY, at REAL NOT NULL, sender BLOB NOT NULL,
            manifest_id TEXT NOT NULL, rand_hash BLOB NOT NULL, num_tickets INTEGER NOT NULL,
            num_credited INTEGER NOT NULL, credit TEXT NOT NULL)""",
        "CREATE INDEX payments_by_manifest ON payments (manifest_id)",
        """CREATE TABLE forfeits (
            at REAL NOT NULL, sender BLOB NOT NULL, manifest_id TEXT NOT NULL,
            amount TEXT NOT NULL)""",
        # Won tickets. The hash is the key: two signatures of a ticket are one redemption.
        """CREATE TABLE winners (
            ticket_hash BLOB PRIMARY KEY, payment_id INTEGER REFERENCES payments,
            manifest_id TEXT NOT NULL, recipient BLOB NOT NULL, sender BLOB NOT NULL,
            face_value BLOB NOT NULL, win_prob BLOB NOT NULL, sender_nonce INTEGER NOT NULL,
            recipient_rand BLOB NOT NULL, rand_hash BLOB NOT NULL, signature BLOB NOT NULL,
            creation_round INTEGER NOT NULL, creation_round_block_hash BLOB NOT NULL,
            expiration_block INTEGER NOT NULL, won_at REAL NOT NULL,
            state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '', changed_at REAL NOT NULL,
            tx_hash BLOB, payout BLOB) WITHOUT ROWID""",
        "CREATE INDEX winners_by_state ON winners (state, sender)",
        # Every state that one was in, for as long as the ticket is kept.
        """CREATE TABLE redemptions (
            id INTEGER PRIMARY KEY, ticket_hash BLOB NOT NULL REFERENCES winners,
            tx_hash BLOB, at REAL NOT NULL, state TEXT NOT NULL,
            reason TEXT NOT NULL DEFAULT '')""",
        "CREATE INDEX redemptions_by_ticket ON redemptions (ticket_hash)",
        # Signed transactions that the chain has not settled yet.
        """CREATE TABLE attempts (
            account BLOB NOT NULL, nonce INTEGER NOT NULL, hash BLOB NOT NULL,
            record BLOB NOT NULL, PRIMARY KEY (account, nonce, hash))""",
    ),
    (
        # What rows of the ledger came to that are too old to be kept one by one.
        """CREATE TABLE daily_totals (
            day TEXT NOT NULL, sender BLOB NOT NULL, model_id TEXT NOT NULL,
            num_payments INTEGER NOT NULL, num_tickets INTEGER NOT NULL,
            num_credited INTEGER NOT NULL, credit TEXT NOT NULL,
            units INTEGER NOT NULL, fee TEXT NOT NULL, forfeited TEXT NOT NULL,
            num_redeemed INTEGER NOT NULL, redeemed_face_value TEXT NOT NULL,
            payout TEXT NOT NULL, num_lost INTEGER NOT NULL, lost_face_value TEXT NOT NULL,
            PRIMARY KEY (day, sender, model_id)) WITHOUT ROWID""",
        # The hashes of winners that were rolled up, so that none can be won a second time.
        """CREATE TABLE settled_tickets (
            ticket_hash BLOB PRIMARY KEY) WITHOUT ROWID""",
        # And how many there were in each last state, by what had kept them from being redeemed.
        """CREATE TABLE settled_totals (
            state TEXT NOT NULL, loss TEXT NOT NULL, num INTEGER NOT NULL,
            face_value TEXT NOT NULL, payout TEXT NOT NULL,
            PRIMARY KEY (state, loss)) WITHOUT ROWID""",
        "CREATE INDEX winners_by_payment ON winners (payment_id)",
        "CREATE INDEX winners_by_manifest ON winners (manifest_id)",
        "CREATE INDEX winners_by_change ON winners (changed_at)",
        "CREATE INDEX forfeits_by_manifest ON forfeits (manifest_id)",
    ),
    (
        # The nonces of a recipient rand in its row, as a JSON list.
        "ALTER TABLE params ADD COLUMN nonces TEXT NOT NULL DEFAULT '[]'",
        """UPDATE params SET nonces =
            (SELECT json_group_array(nonce) FROM nonces WHERE params_id = params.id)""",
        "DROP TABLE nonces",
    ),
)


def migrate(connection: sqlite3.Connection) -> None:
    """Takes a store of any earlier release to this one; each step whole or not at all.

    Raises: ConfigError: a newer release made it.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise ConfigError(
            f"the payment store has version {version} and this release knows {len(MIGRATIONS)}; "
            "use the release that wrote it, or a newer one"
        )
    for number, steps in enumerate(MIGRATIONS[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for step in steps:
                connection.execute(step)
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:  # a migration is whole or not at all
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
