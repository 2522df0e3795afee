//! Commands, flags and values that are typed wrong: refused before anything is sent.

use super::Book;

#[test]
fn mistyped() {
    let mut book = Book::of(
        "mistyped",
        "Commands, flags and values that are typed wrong. Nobody is asked; all end with 2.",
    );
    book.part("commands");
    book.types(&[
        "aspen bogus",
        "aspen gett greeting",
        "aspen lease",
        "aspen lease grnt 10s",
        "aspen keyspace",
        "aspen settings",
        "aspen ticket",
        "aspen config",
        "aspen help bogus",
    ]);
    book.part("arguments that are missing, or too many");
    book.types(&[
        "aspen put",
        "aspen get",
        "aspen get a b",
        "aspen put a b c",
        "aspen del",
        "aspen del a --prefix b",
        "aspen del --range a",
        "aspen range a --start b",
        "aspen watch a --prefix b",
        "aspen join",
        "aspen compact",
        "aspen remove",
        "aspen transfer",
        "aspen transfer 1",
        "aspen maintenance",
        "aspen maintenance on",
        "aspen settings set",
        "aspen settings set lost-after",
        "aspen rebalance",
        "aspen recover",
        "aspen lease grant",
        "aspen keyspace create",
        "aspen ticket revoke",
        "aspen completions",
    ]);
    book.part("flags");
    book.types(&[
        "aspen start --reech lan",
        "aspen put k v --if-absnt",
        "aspen put k --flag",
        "aspen get k --data-dir x",
        "aspen get k --if-absent",
        "aspen put k v --if-revision",
        "aspen put k v --if-revision 1 --if-absent",
        "aspen ticket create --prefix app/",
        "aspen ticket create --client --role voter",
        "aspen start --node http://127.0.0.1:4680",
        "aspen config show --timeout 1s",
        "aspen members --keyspace logs",
    ]);
    book.part("values");
    book.types(&[
        "aspen get k --revision abc",
        "aspen get k --revision -1",
        "aspen put k v --if-revision x",
        "aspen range --limit x",
        "aspen watch --from x",
        "aspen compact x",
        "aspen get k --consistency fresh",
        "aspen get k --timeout 5",
        "aspen get k --timeout 0s",
        "aspen lease grant 30",
        "aspen lease show xyz",
        "aspen lease show 0",
        "aspen remove x",
        "aspen transfer x 1",
        "aspen maintenance onn 1",
        "aspen keyspace create logs --shards 0",
        "aspen keyspace create logs --replicas 9",
        "aspen put k v --keyspace 'a b'",
        "aspen ticket create --role king",
        "aspen ticket create --uses 0",
        "aspen ticket create --expires soon",
        "aspen ticket create --client --allow all",
        "aspen ticket revoke x",
        "aspen recover --data-dir data --confirm yes",
        "aspen completions csh",
    ]);
    book.part("keys and values");
    book.types(&[
        "aspen get ''",
        "aspen get \"$(printf %5000s)\"",
        "aspen get xyz --encoding hex",
        "aspen get abc --encoding base64",
        "aspen get abc --encoding utf8",
        "aspen put k --file nowhere",
        "aspen put k --file .",
        "head -c 5000000 /dev/zero | aspen put k",
    ]);
    book.part("transactions that are no JSON");
    book.types(&[
        "aspen txn",
        "aspen txn '{'",
        "aspen txn '{\"then\": [}'",
        "aspen txn '{\"then\": []} more'",
        "aspen txn --file nowhere",
    ]);
    book.part("nodes");
    book.file("file", "no socket, and no certificate\n");
    book.types(&[
        "aspen get k --node 127.0.0.1:4680",
        "aspen get k --node ftp://127.0.0.1",
        "aspen get k --node http://127.0.0.1:4680/v1",
        "aspen get k --node unix:",
        "aspen get k --node https://127.0.0.1:4680",
        "aspen get k --node https://127.0.0.1:4680 --ca nowhere",
        "aspen get k --node https://127.0.0.1:4680 --ca file",
    ]);
    book.part("elsewhere");
    book.types(&["aspen man --dir nowhere", "aspen config check nowhere"]);
    book.close();
}
