//! The status page: one HTML document with its style and script inside, and the policy that lets a
//! browser run these and nothing else.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest::{SHA256, digest};

const HTML: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Goes into the script where it says so.
const MYSQL: &str = include_str!("mysql.js");

/// The page and what a browser may do with it.
#[derive(Debug)]
pub struct Page {
    /// The document.
    pub html: String,
    /// The value of `Content-Security-Policy`.
    pub policy: String,
}

/// The page, which is the same for all.
pub static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let script = SCRIPT.replace("/*MYSQL*/", MYSQL);
    Page {
        html: HTML
            .replace("/*STYLE*/", STYLE)
            .replace("/*SCRIPT*/", &script),
        policy: format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash(&script),
            hash(STYLE)
        ),
    }
});

/// As a policy names what is inside of a document.
fn hash(text: &str) -> String {
    format!(
        "sha256-{}",
        STANDARD.encode(digest(&SHA256, text.as_bytes()))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_one_document_without_anything_from_elsewhere() {
        let html = &PAGE.html;
        assert!(html.contains(STYLE) && html.contains(MYSQL));
        for outside in [
            "http://",
            "https://",
            "@import",
            "url(",
            " src=",
            "innerHTML",
            "eval(",
        ] {
            let found = html.replace("http://www.w3.org/2000/svg", "");
            assert!(!found.contains(outside), "{outside}");
        }
        assert!(!PAGE.policy.contains("unsafe"), "{}", PAGE.policy);
    }

    #[test]
    fn a_hash_is_that_of_the_specification() {
        // The example of CSP level 2.
        assert_eq!(
            hash("alert('Hello, world.');"),
            "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng="
        );
    }
}
