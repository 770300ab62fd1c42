//! The same value however it is written; placeholders link no one.

use deltawatch::views::identity::normalise::{PLACEHOLDERS, Written, key};

fn same(written: Written, a: &str, b: &str) {
    let (a_key, b_key) = (key(written, a), key(written, b));
    assert!(a_key.is_some() && a_key == b_key, "{a:?} and {b:?}: {a_key:?}, {b_key:?}");
}

#[test]
fn ways_of_writing_agree() {
    same(Written::Text, " Device-7 ", "device-7");
    same(Written::Text, "12  High   Street", "12 high street");
    same(Written::Text, "MÜLLER", "müller");
    same(Written::Email, "Ann@Example.org", " ann@example.org ");
    same(Written::Phone, "+44 (0)20 7946-0018", "+4402079460018");
    same(Written::Phone, "0044 20 7946 0018", "+442079460018");
    same(Written::Ip, "203.0.113.9", "::ffff:203.0.113.9");
    same(Written::Ip, "2001:DB8:0::1", "2001:db8::1");
}

#[test]
fn different_values_differ() {
    for (written, a, b) in [
        (Written::Text, "a b", "ab"),
        (Written::Phone, "2079460018", "+2079460018"),
        (Written::Ip, "203.0.113.9", "203.0.113.10"),
        (Written::Email, "a@x.org", "b@x.org"),
    ] {
        assert_ne!(key(written, a), key(written, b), "{a} and {b}");
    }
}

#[test]
fn placeholders_link_no_one() {
    for text in PLACEHOLDERS {
        for written in [Written::Text, Written::Email, Written::Phone, Written::Ip] {
            assert_eq!(key(written, text), None, "{text:?}");
            assert_eq!(key(written, &format!(" {} ", text.to_uppercase())), None, "{text:?}");
        }
    }
    for (written, text) in [
        (Written::Text, "0000000"),
        (Written::Phone, "+1111111111"),
        (Written::Phone, "12345"),
        (Written::Email, "unknown@example.org"),
        (Written::Email, "nobody"),
        (Written::Ip, "0.0.0.0"),
        (Written::Ip, "127.0.0.1"),
        (Written::Ip, "127.9.9.9"),
        (Written::Ip, "::1"),
        (Written::Ip, "::ffff:127.0.0.1"),
        (Written::Ip, "169.254.3.4"),
        (Written::Ip, "255.255.255.255"),
        (Written::Ip, "not an ip"),
    ] {
        assert_eq!(key(written, text), None, "{text:?}");
    }
}
