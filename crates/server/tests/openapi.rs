//! The checked-in description is the one that is served.

#[test]
fn the_checked_in_description_is_what_is_served() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let served = lindos_server::openapi();
    if std::env::var_os("LINDOS_UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &served).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == served,
        "docs/openapi.json is not what is served: run the test with LINDOS_UPDATE_OPENAPI=1 and \
         read the difference"
    );
}
