//! Look-ups as of arrival and live joins, as text cases.

use deltawatch::testkit::cases;
use deltawatch::views::lookup::Enrich;

use super::{look_ups, reference};

fn shops() -> Enrich {
    Enrich::of("shop", &["shop"], reference("shops"))
        .number("risk")
        .or(0.5)
        .number("fee")
        .category("tier", &["gold", "silver"])
        .known()
}

#[track_caller]
fn case(look_up: Enrich, input: &str, wanted: &str) {
    let (dataflow, setup) = look_ups(vec![look_up]);
    let got = cases::run(&format!("input\n{input}"), dataflow, &setup).unwrap();
    let lines =
        |text: &str| text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    assert_eq!(lines(&got), lines(wanted.trim_start()), "\n{got}");
}

#[test]
fn upsert_and_delete_between_epochs() {
    case(
        shops(),
        r#"@shops {"shop":"s","risk":0.9,"tier":"gold"}
{"id":"a","time":1000,"shop":"s"}
{"id":"b","time":1001,"shop":"t"}

@shops {"shop":"s","risk":0.1,"fee":1.5,"tier":"iron"}
@shops {"shop":"t","tier":"silver"}
{"id":"c","time":1002,"shop":"s"}
{"id":"d","time":1003,"shop":"t"}

@shops - {"shop":"s"}
{"id":"e","time":1004,"shop":"s"}
{"id":"f","time":1005}
"#,
        "epoch diff id cause shop_risk shop_fee shop_tier shop_known
0 +1 a arrival 0.9 0.25 1 1
0 +1 b arrival 0.5 0.25 - 0
1 +1 c arrival 0.1 1.5 0 1
1 +1 d arrival 0.5 0.25 2 1
2 +1 e arrival 0.5 0.25 - 0
2 +1 f arrival 0.5 0.25 - 0
",
    );
}

/// A record that carries a time is seen by what comes at or after it in its epoch, and by everything later on.
#[test]
fn order_within_an_epoch() {
    let cards = Enrich::of("card", &["card"], reference("cards")).number("limit");
    case(
        cards,
        r#"{"id":"c","time":1002,"card":"x"}
@cards {"card":"x","limit":7,"since":1001}
{"id":"b","time":1001,"card":"x"}
{"id":"a","time":1000,"card":"x"}
@cards {"card":"x","limit":8,"since":1003}
{"id":"d","time":1003,"card":"x"}

{"id":"e","time":900,"card":"x"}
"#,
        "epoch diff id cause card_limit
0 +1 c arrival 7
0 +1 b arrival 7
0 +1 a arrival -
0 +1 d arrival 8
1 +1 e arrival 8
",
    );
}

#[test]
fn one_hot_code_pair_and_prefix() {
    let shop = || Enrich::of("shop", &["shop"], reference("shops"));
    case(
        shop().one_hot("tier", &["gold", "iron"]),
        "@shops {\"shop\":\"s\",\"tier\":\"iron\"}\n{\"id\":\"a\",\"time\":1,\"shop\":\"s\"}\n{\"id\":\"b\",\"time\":2,\"shop\":\"t\"}\n",
        "epoch diff id cause shop_tier_gold shop_tier_iron\n0 +1 a arrival 0 1\n0 +1 b arrival 0 0\n",
    );
    case(
        Enrich::of("pair", &["card", "shop"], reference("pairs")).number("seen"),
        "@pairs {\"card\":\"x\",\"shop\":\"s\",\"seen\":true}\n{\"id\":\"a\",\"time\":1,\"card\":\"x\",\"shop\":\"s\"}\n{\"id\":\"b\",\"time\":2,\"card\":\"s\",\"shop\":\"x\"}\n",
        "epoch diff id cause pair_seen\n0 +1 a arrival 1\n0 +1 b arrival -\n",
    );
    case(
        shop().number("risk").prefix(2),
        "@shops {\"shop\":\"41\",\"risk\":3}\n{\"id\":\"a\",\"time\":1,\"shop\":\"4111\"}\n{\"id\":\"b\",\"time\":2,\"shop\":\"4\"}\n",
        "epoch diff id cause shop_risk\n0 +1 a arrival 3\n0 +1 b arrival -\n",
    );
}

/// A look-up as of arrival answers a corrected event anew, and is kept where only another feature changes.
#[test]
fn as_of_arrival_is_not_revised() {
    case(
        shops(),
        r#"{"id":"a","time":1000,"shop":"s"}

@shops {"shop":"s","risk":0.9}

{"id":"a","time":1000,"shop":"s","amount":3}
"#,
        "epoch diff id cause shop_risk shop_fee shop_tier shop_known
0 +1 a arrival 0.5 0.25 - 0
2 -1 a correction 0.5 0.25 - 0
2 +1 a correction 0.9 0.25 - 1
",
    );
}

/// A list that changes revises those who looked at it, younger than the horizon, and no one else.
#[test]
fn live_join_revises() {
    let blocked = Enrich::of("card", &["card"], reference("blocked")).known().live();
    case(
        blocked,
        r#"{"id":"old","time":1000,"card":"x"}
{"id":"a","time":5000000,"card":"x"}
{"id":"b","time":5000001,"card":"y"}
{"id":"gone","time":5000002,"card":"x"}

{"id":"gone","op":"withdraw"}

@blocked {"card":"x"}
{"id":"c","time":5000003,"card":"x"}

@blocked {"card":"x"}

@blocked - {"card":"x"}
@blocked - {"card":"y"}
"#,
        "epoch diff id cause card_known
0 +1 old arrival 0
0 +1 a arrival 0
0 +1 b arrival 0
0 +1 gone arrival 0
1 -1 gone withdrawal 0
2 +1 c arrival 1
2 -1 a reference 0
2 +1 a reference 1
4 -1 a reference 1
4 +1 a reference 0
4 -1 c reference 1
4 +1 c reference 0
",
    );
}
