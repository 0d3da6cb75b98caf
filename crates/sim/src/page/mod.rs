//! What every page that a simulation writes is made of: one self-contained HTML file, with nothing
//! loaded from anywhere and no scripts.

mod plot;

pub use plot::{Axis, Plot, SERIES_MAX, Scale, Series, escape};

const STYLE: &str = include_str!("style.css");

/// From the first byte of a page to its heading.
pub fn head(title: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title>\n<style>\n{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n"
    )
}

/// The end of a page.
pub const FOOT: &str = "</body></html>\n";
