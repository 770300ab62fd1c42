//! x
use deltawatch::event::*;
use deltawatch::score::rules::*;
use std::time::Instant;
fn schema() -> Schema {
    Schema::parse("h", include_str!("../../dataflows/payments.toml")).unwrap()
}
#[test]
fn explore() {
    let schema = schema();
    let cols = ["card_count_10m".to_string(), "card_sum".to_string()];
    let n = 20000;
    let mut list: Vec<(String, String)> = vec![];
    let mut add = |a: &str, s: String| list.push((a.to_owned(), s));
    for n in [30, 45, 8000] {
        add("(", "(".repeat(n) + "1" + &")".repeat(n) + " == 1");
        add("( open", "(".repeat(n));
        add("[", "[".repeat(n) + "1" + &"]".repeat(n));
        add("!", "!".repeat(n) + "true");
        add("-", "-".repeat(n) + "1 == 1");
        add("- -", "- ".repeat(n) + "1 == 1");
        add("?", "true ? 1 : ".repeat(n / 2) + "1 == 1");
        add("?()", "(true ? (1 == 1) : ".repeat(n / 2) + "(1==1)" + &")".repeat(n / 2));
        add("+", "1+".repeat(n) + "1 == 1");
        add("x.x", "x.".repeat(n) + "x");
        add("event.x.x", "event.".to_owned() + &"x.".repeat(n) + "x");
        add("x[0]", "x".to_owned() + &"[0]".repeat(n / 3));
        add("f()()", "size(".repeat(n / 5) + "'a'" + &")".repeat(n / 5) + " == 1");
        add("<", "1<".repeat(n) + "1");
        add("in", "1 in ".repeat(n / 5) + "[1]");
        add("&&", "true&&".repeat(n / 4) + "true");
        add("||", "score > 0.5||".repeat(n / 8) + "true");
        add("&& ||", "true&&false||".repeat(n / 8) + "true");
        add("{", "{1:".repeat(n / 3) + "1" + &"}".repeat(n / 3));
        add("f.f()", "'a'".to_owned() + &".size()".repeat(n / 8));
        add("raw (", "r'\\' == ".to_owned() + &"(".repeat(n));
        add("unclosed", "'".to_owned() + &"1+".repeat(n));
        add("bad escape", "'\\q' + ".to_owned() + &"1+".repeat(n));
        add("&lone", "1+1& +1".repeat(n / 8));
        add("list", format!("score in [{}]", "1,".repeat(n / 2) + "1"));
        add("spaces", " ".repeat(n));
        add("(()", "()".repeat(n / 2));
        add(")", ")".repeat(n));
        add("a b", "a ".repeat(n / 2));
        add("1 1", "1 ".repeat(n / 2));
        add("$", "$".repeat(n));
        add("\\0", "\0".repeat(n));
        add("é", "é".repeat(n / 2));
        add("'a' 'a'", "'a' ".repeat(n / 4));
        add("mixed deep", "(1+(1*(-1)+".repeat(n / 12).to_owned() + "1" + &"))".repeat(n / 12) + " == 1");
        add("digits", "9".repeat(n));
        add("1e", "1e".to_owned() + &"9".repeat(n));
        add(",", ",".repeat(n));
        add("?:", "?:".repeat(n / 2));
        add("`", "`".repeat(n));
        add("&", "&".repeat(n));
        add("= ", "= ".repeat(n / 2));
        add("//", "//".repeat(n / 2));
    }
    let mb: Vec<usize> =
        std::env::var("STACK").map_or(vec![2048], |s| s.split(',').map(|s| s.parse().unwrap()).collect());
    for (a, s) in list {
        for &kb in &mb {
            let s2 = s.clone();
            let schema2 = schema.clone();
            let cols = cols.clone();
            println!("{a} {} on {kb}", s.len());
            std::thread::Builder::new()
                .stack_size(kb << 10)
                .spawn(move || {
                    let t = Instant::now();
                    let r = Expression::new(&s2, &Scope::new(&schema2, &cols));
                    let v = r.map(|r| {
                        let event = EventBuilder::new(&schema2).finish(
                            Id::from_int(1),
                            0,
                            schema2.default_kind(),
                            Op::Insert,
                            &schema2,
                        );
                        r.value(&Facts { row: &[1.0, 2.0], score: 0.5, event: &event, kind: "x" })
                    });
                    println!("   {:?} {:.150?}", t.elapsed(), v.map_err(|e| e.to_string()));
                })
                .unwrap()
                .join()
                .unwrap_or_else(|_| println!("   PANIC"));
        }
    }
}
