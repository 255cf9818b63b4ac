//! How words become a text: spaces, comments, versions, and mistakes.

use fastrand::Rng;

const GAPS: [&str; 12] = [
    "\t",
    "\n",
    "\r\n",
    "  ",
    "/**/",
    " /* x */ ",
    " -- x\n",
    " #x\n",
    "\n--\n",
    " /*/ */ ",
    "/* /* */",
    "\x0b",
];

/// Versions around those of the servers that are tested, with what is no version.
const VERSIONS: [&str; 16] = [
    "", "40000", "50000", "50700", "50701", "80000", "080000", "90000", "90704", "99999", "100000",
    "100100", "101100", "110000", "1", "999999",
];

/// The text of a statement.
pub(super) fn dress(rng: &mut Rng, words: &[String]) -> String {
    let mut words = words.to_vec();
    if rng.u8(..8) == 0 {
        spoil(rng, &mut words);
    }
    if rng.u8(..4) == 0 {
        in_a_comment(rng, &mut words);
    }
    let is_fancy = rng.u8(..4) == 0;
    let mut text = String::new();
    if is_fancy && rng.bool() {
        text.push_str(GAPS[rng.usize(..GAPS.len())]);
    }
    for (number, word) in words.iter().enumerate() {
        if number > 0 {
            let is_odd = is_fancy && rng.u8(..3) == 0;
            text.push_str(if is_odd {
                GAPS[rng.usize(..GAPS.len())]
            } else if rng.u16(..300) == 0 {
                ""
            } else {
                " "
            });
        }
        match rng.u8(..8) {
            0 if is_fancy => text.push_str(&word.to_lowercase()),
            _ => text.push_str(word),
        }
    }
    text
}

/// Some of the words become part of a comment that some servers execute.
fn in_a_comment(rng: &mut Rng, words: &mut Vec<String>) {
    let begin = rng.usize(..=words.len());
    let end = rng.usize(begin..=words.len());
    let marker = ["!", "!", "M!"][rng.usize(..3)];
    let version = VERSIONS[rng.usize(..VERSIONS.len())];
    let space = if rng.bool() { " " } else { "" };
    let nothing = [
        "FOR UPDATE",
        "INTO OUTFILE 'out4'",
        "INTO @u1",
        "+ shop.f(1)",
        "; INSERT INTO log VALUES (NULL)",
        "/* x */ FOR UPDATE",
        "x",
        "",
    ];
    // Words of the statement, or more that would make a write of it.
    if rng.bool() {
        words.insert(end, "*/".to_owned());
        words.insert(begin, format!("/*{marker}{version}{space}"));
    } else {
        let more = nothing[rng.usize(..nothing.len())];
        words.insert(begin, format!("/*{marker}{version}{space}{more} */"));
    }
}

/// A mistake, such as nobody would make but by mistake.
fn spoil(rng: &mut Rng, words: &mut Vec<String>) {
    if words.is_empty() {
        return;
    }
    let at = rng.usize(..words.len());
    match rng.u8(..8) {
        0 => drop(words.remove(at)),
        1 => words.insert(at, words[rng.usize(..words.len())].clone()),
        2 => words.swap(at, 0),
        3 => {
            let next = (at + 1).min(words.len() - 1);
            words.swap(at, next);
        }
        4 => words.insert(
            at,
            [
                "'", "\"", "`", "/*", "*/", "--", "#", "\\", "@", "(", ")", ":=",
            ][rng.usize(..12)]
            .to_owned(),
        ),
        5 => words[at] = format!("`{}`", words[at]),
        6 => words[at] = words[at].replace(['\'', '"'], ["'", "\"", "`"][rng.usize(..3)]),
        _ => {
            let word = words[at].clone();
            let cut = rng.usize(..=word.len());
            if let Some((left, right)) = word.split_at_checked(cut) {
                words[at] = [
                    left,
                    ["", " ", "/**/", "\\", "'", "\0", "$", "."][rng.usize(..8)],
                    right,
                ]
                .concat();
            }
        }
    }
}
