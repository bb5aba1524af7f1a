//! Arrays from the outside: made, written, read, listed, removed.

use crate::harness::{folder, shared, text};
use crate::npy;

#[test]
fn an_array_goes_out_to_a_file_and_comes_back() {
    let (cluster, folder) = (shared(), folder());
    let (first, second) = (folder.path().join("in.npy"), folder.path().join("out.npy"));
    npy::write_i64(&first, "(1000, 300)", 0..300_000);
    cluster.run(&["array", "put", "trip/a", "--in", text(&first)]).ok();
    cluster.run(&["array", "get", "trip/a", "--out", text(&second)]).ok();
    let (header, values) = npy::read_i64(&second);
    assert!(header.contains("'<i8'") && header.contains("(1000, 300)"), "{header}");
    assert!(values.into_iter().eq(0..300_000));

    // A strided slice, to a file that is there already.
    cluster.run(&["array", "get", "trip/a[10:20:5, ::100]", "--out", text(&second)]).ok();
    let (header, values) = npy::read_i64(&second);
    assert!(header.contains("(2, 3)"), "{header}");
    assert_eq!(values, [3000, 3100, 3200, 4500, 4600, 4700]);

    // The same data again fits, another shape does not.
    cluster.run(&["array", "put", "trip/a", "--in", text(&first)]).ok();
    let said = cluster.run(&["array", "put", "trip/a", "--in", text(&second)]).refused("HC1001", 2);
    assert!(said.contains("(2, 3)") && said.contains("(1000, 300)"), "{said}");

    // A slice takes a file of its shape.
    npy::write_i64(&first, "(2, 3)", [-1, -2, -3, -4, -5, -6]);
    cluster.run(&["array", "put", "trip/a[0:2, 0:3]", "--in", text(&first)]).ok();
    let shown = cluster.run(&["array", "get", "trip/a[0:3, :4]"]).ok();
    assert_eq!(shown, "[[ -1  -2  -3   3]\n [ -4  -5  -6 303]\n [600 601 602 603]]\n");
}

#[test]
fn fortran_order_and_big_endian_files_are_converted() {
    let (cluster, folder) = (shared(), folder());
    let path = folder.path().join("a.npy");
    // [[0, 1, 2], [3, 4, 5]] with the first axis fastest.
    let data: Vec<u8> =
        [0i64, 3, 1, 4, 2, 5].iter().flat_map(|value| value.to_le_bytes()).collect();
    std::fs::write(&path, npy::file("<i8", true, "(2, 3)", &data)).unwrap();
    cluster.run(&["array", "put", "order/fortran", "--in", text(&path)]).ok();
    assert_eq!(cluster.run(&["array", "get", "order/fortran"]).ok(), "[[0 1 2]\n [3 4 5]]\n");

    // 1.5 and -2 with the most significant byte first.
    std::fs::write(&path, npy::file(">f4", false, "(2,)", &[0x3f, 0xc0, 0, 0, 0xc0, 0, 0, 0]))
        .unwrap();
    cluster.run(&["array", "put", "order/big", "--in", text(&path)]).ok();
    assert_eq!(cluster.run(&["array", "get", "order/big"]).ok(), "[ 1.5 -2.0]\n");
    assert!(cluster.run(&["array", "info", "order/big"]).ok().contains("float32"));

    std::fs::write(&path, npy::file("|b1", false, "(3,)", &[0, 1, 7])).unwrap();
    cluster.run(&["array", "put", "order/bool", "--in", text(&path)]).ok();
    assert_eq!(cluster.run(&["array", "get", "order/bool"]).ok(), "[false  true  true]\n");
}

#[test]
fn single_values_and_slices_are_written() {
    let cluster = shared();
    cluster.run(&["allocate", "value/a", "--shape", "4,5", "--dtype", "int8"]).ok();
    cluster.run(&["array", "put", "value/a", "--value", "7"]).ok();
    cluster.run(&["array", "put", "value/a[1:3, ::2]", "--value", "-3"]).ok();
    cluster.run(&["array", "put", "value/a[-1, -1]", "--value", "127"]).ok();
    let shown = cluster.run(&["array", "get", "value/a"]).ok();
    assert_eq!(
        shown,
        "[[  7   7   7   7   7]\n [ -3   7  -3   7  -3]\n [ -3   7  -3   7  -3]\n [  7   7   7   7 127]]\n"
    );
    assert_eq!(cluster.run(&["array", "get", "value/a[3, 4]"]).ok(), "127\n");

    let ran = cluster.run(&["array", "get", "value/a[2:4, 0]", "-o", "json"]).json();
    assert_eq!(ran["data"], serde_json::json!([-3, 7]));
    assert_eq!((&ran["dtype"], &ran["shape"]), (&"int8".into(), &serde_json::json!([2])));

    cluster.run(&["array", "put", "value/a[0, 0]", "--value", "128"]).refused("HC1003", 2);
    cluster.run(&["array", "put", "value/a[0, 0]", "--value", "0.5"]).refused("HC1004", 2);
}

#[test]
fn a_large_array_shows_its_edges() {
    let cluster = shared();
    cluster.run(&["allocate", "large/a", "--shape", "3_000_000", "--dtype", "int64"]).ok();
    cluster.run(&["run", "--expr", "2*i", "--out", "large/a"]).ok();
    let shown = cluster.run(&["array", "get", "large/a"]).ok();
    assert_eq!(shown, "[      0       2       4 ... 5999994 5999996 5999998]\n");
    let said = cluster.run(&["array", "get", "large/a", "-o", "json"]);
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("HC1009"), "{said:?}");
}

#[test]
fn arrays_are_listed_described_and_removed() {
    let cluster = shared();
    cluster.run(&["allocate", "list/a", "--shape", "1000", "--dtype", "float64"]).ok();
    let made = cluster.run(&["alloc", "list/b", "--like", "list/a", "--dtype", "bool"]).ok();
    assert_eq!(made, "allocated list/b: bool (1000,), 1000 B in 1 shard, 2 copies\n");
    cluster.run(&["allocate", "list/a", "--shape", "5", "--dtype", "bool"]).refused("HC1102", 6);

    let table = cluster.run(&["array", "ls", "list/"]).ok();
    assert_eq!(
        table,
        "NAME    DTYPE    SHAPE       SIZE  SHARDS  COPIES\n\
         list/a  float64  (1000,)  7.8 KiB       1       2\n\
         list/b  bool     (1000,)   1000 B       1       2\n"
    );
    let rows = cluster.run(&["array", "ls", "list/", "-o", "jsonl"]).ok();
    let names: Vec<String> = rows
        .lines()
        .map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap()["name"].to_string())
        .collect();
    assert_eq!(names, ["\"list/a\"", "\"list/b\""]);
    let info = cluster.run(&["array", "info", "list/b", "-o", "json"]).json();
    let both = cluster.run(&["array", "info", "list/a", "-o", "json"]).json();
    assert_eq!(info["colocation"], both["colocation"]);
    let shards: u64 =
        info["nodes"].as_array().unwrap().iter().map(|node| node["shards"].as_u64().unwrap()).sum();
    assert_eq!(shards, 1);
    let backups = info["nodes"].as_array().unwrap().iter().map(|node| node["backups"].as_u64());
    assert_eq!(
        backups.sum::<Option<u64>>(),
        Some(1),
        "two copies where there are nodes enough: {info}"
    );
    assert_eq!((&info["replicas"], &info["min_in_sync"]), (&2.into(), &1.into()));
    let copies = |more: &[&str]| {
        let name = format!("list/{}", more.join(""));
        let args = [&["allocate", &name, "--shape", "8", "--dtype", "int8"][..], more].concat();
        cluster.run(&args)
    };
    copies(&["--replicas", "3", "--min-in-sync", "2"]).ok();
    copies(&["--replicas", "1", "--min-in-sync", "2"]).refused("HC1001", 2);
    let none = copies(&["--replicas", "0"]);
    assert_eq!((none.code, none.stdout.as_str()), (2, ""), "{none:?}");

    let said = cluster.run(&["array", "rm", "list/a"]).refused("HC1001", 2);
    assert!(said.contains("--yes"), "{said}");
    cluster.run(&["array", "rm", "list/a", "--yes"]).ok();
    cluster.run(&["array", "rm", "list/a", "--yes"]).refused("HC1101", 3);
    cluster.run(&["array", "info", "list/a"]).refused("HC1101", 3);
    cluster.run(&["array", "get", "list/a"]).refused("HC1101", 3);
}

#[test]
fn status_shows_every_node_and_every_link_with_its_suite() {
    let cluster = shared();
    cluster.run(&["allocate", "seen/status", "--shape", "8", "--dtype", "int64"]).ok();
    let status = cluster.run(&["status", "-o", "json"]).json();
    let nodes = status["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    assert_eq!(status["ephemeral"], true);
    for node in nodes {
        assert_eq!((&node["state"], &node["up"]), (&"active".into(), &true.into()));
        assert!(node["resident_bytes"].as_u64().unwrap() > 0, "{node}");
        assert_eq!(node["frame_bytes_max"], 512 << 20, "{node}");
    }
    for link in status["links"].as_array().unwrap() {
        assert!(link["suite"].as_str().unwrap().starts_with("Noise_"), "{link}");
    }

    assert_eq!(status["catalog"]["quorum"], true);
    assert_eq!(status["catalog"]["voters"].as_array().unwrap().len(), 3, "{status}");

    let words = cluster.run(&["status", "--ring"]).ok();
    for part in ["NAME", "n1", "n2", "n3", "active", "led by n", "CIPHER SUITE", "primary of", "█"]
    {
        assert!(words.contains(part), "{part:?} is missing: {words}");
    }
}
