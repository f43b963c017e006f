//! Databases in containers whose machine dies while they commit. What they need is in `scripts/setup`.

use e2e::machines::Machines;
use e2e::trees::{DATABASE_USER, mariadb_tree, postgres_tree};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A database and a client in one container. The client commits a row after the other, each with the next number, and says
/// the number when it has been told that the row is committed.
struct Database {
    tree: fn(&Path) -> (PathBuf, String),
    /// What starts it, and waits until there is a table `t`.
    start: &'static str,
    /// A client that takes SQL from its standard input, and prints a row as its columns.
    client: &'static str,
}

const POSTGRES: Database = Database {
    tree: postgres_tree,
    start: "[ -s /data/PG_VERSION ] || initdb -D /data -U postgres --auth=trust --locale=C -E UTF8 > /tmp/initdb 2>&1\n\
        rm -f /data/postmaster.pid\n\
        postgres -D /data -c listen_addresses= -c unix_socket_directories=/tmp -c max_wal_size=64MB > /tmp/log 2>&1 &\n\
        until echo 'create table if not exists t (n bigint primary key);' | $CLIENT > /tmp/create 2>&1\n\
        do sleep 0.05; done",
    client: "psql -h /tmp -U postgres -qAt",
};

// Its system tablespace can be recovered only once it was shut down in order: `--bootstrap` does so, as its installation does.
const MARIADB: Database = Database {
    tree: mariadb_tree,
    start: "OPTIONS='--no-defaults --skip-grant-tables --skip-networking --datadir=/data --innodb-use-native-aio=0'\n\
        [ -e /data/ibdata1 ] || mariadbd $OPTIONS --bootstrap < /dev/null > /tmp/bootstrap 2>&1\n\
        mariadbd $OPTIONS --socket=/tmp/db --pid-file=/tmp/pid > /tmp/log 2>&1 &\n\
        until echo 'create database if not exists d; create table if not exists d.t (n bigint primary key) engine=innodb;' | \
        ${CLIENT% d} > /tmp/create 2>&1\n\
        do sleep 0.05; done",
    client: "mariadb --no-defaults -S /tmp/db -BNn d",
};

impl Database {
    fn script(&self, programs: &str) -> String {
        let (start, client) = (self.start, self.client);
        format!(
            "export PATH={programs}:/bin CLIENT='{client}'\n{start}\n\
             n=$(echo 'select coalesce(max(n), 0) from t;' | $CLIENT)\n\
             while :; do n=$((n + 1)); echo \"insert into t values ($n); select $n;\"; done | $CLIENT"
        )
    }

    /// How many rows there are, and the last, at one moment: the client goes on meanwhile.
    fn rows(&self, machines: &Machines, node: usize, programs: &str) -> (u64, u64) {
        let client = self.client;
        let script = format!(
            "export PATH={programs}:/bin; echo 'select count(*), max(n) from t;' | {client}"
        );
        let words = ["exec", "counter", "/bin/sh", "-c", &script];
        let told = machines.engines[node].docker(&words).success();
        // Each client has its own mark between columns.
        let mut numbers = told
            .split(|character: char| !character.is_ascii_digit())
            .filter_map(|word| word.parse().ok());
        (
            numbers.next().expect("a count"),
            numbers.next().expect("the last"),
        )
    }

    fn loses_no_commit(&self) {
        let Some((mut machines, programs)) = Machines::with(self.tree) else {
            return;
        };
        let (user, script) = (DATABASE_USER.to_string(), self.script(&programs));
        machines.create("768M");
        machines.run_as(0, &user, &script).success();
        machines.wait_said(0, 1);
        machines.protected();
        machines.wait_said(0, 1000);

        let begun = Instant::now();
        machines.die(0);
        let words = machines.engines[0]
            .last_words()
            .expect("it has said something");
        let committed: u64 = words.parse().expect("a number");
        machines.run_as(1, &user, &script).success();
        let first = machines.wait_said(1, committed + 1);
        let took = begun.elapsed();
        let (count, last) = self.rows(&machines, 1, &programs);
        println!(
            "{committed} rows were committed when the machine died; {took:?} later row {first} was; {count} rows, the \
             last is {last}"
        );
        assert_eq!(count, last, "no row is missing");
        assert!(last > committed);
        machines.engines[1]
            .docker(&["rm", "-f", "counter"])
            .success();
    }
}

#[test]
fn postgresql_loses_no_commit_with_its_machine() {
    POSTGRES.loses_no_commit();
}

#[test]
fn mariadb_loses_no_commit_with_its_machine() {
    MARIADB.loses_no_commit();
}
