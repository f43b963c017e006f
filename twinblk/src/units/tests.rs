use super::Size;

#[test]
fn sizes_are_powers_of_two() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("4K", 4096),
        ("10g", 10 << 30),
        ("2T", 2 << 40),
    ] {
        assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
    }
}

#[test]
fn what_is_no_size_is_refused() {
    for text in [
        "",
        "G",
        "-1",
        "1.5G",
        "10 G B",
        "10GB",
        "+4K",
        "99999999999T",
        "18446744073709551616",
    ] {
        assert!(text.parse::<Size>().is_err(), "{text}");
    }
}

#[test]
fn sizes_print_as_they_are_typed() {
    for (bytes, text) in [
        (0, "0"),
        (512, "512"),
        (4096, "4K"),
        (20 << 30, "20G"),
        (1288490189, "1.2G"),
    ] {
        assert_eq!(Size(bytes).to_string(), text);
    }
}
