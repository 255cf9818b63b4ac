//! Blocks in braces, as keepalived has them.

/// A statement, and what stands in its braces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    /// Its line, from 1.
    pub(super) line: usize,
    pub(super) words: Vec<String>,
    pub(super) children: Vec<Node>,
}

impl Node {
    /// The word at that place, or none.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// As a comment shows it.
    pub(super) fn text(&self) -> String {
        self.words.join(" ")
    }

    /// The first word behind the last statement of one of these names in it.
    pub(super) fn value(&self, names: &[&str]) -> Option<&str> {
        Some(self.child(names)?.word(1))
    }

    /// The last statement of one of these names in it.
    pub(super) fn child(&self, names: &[&str]) -> Option<&Node> {
        self.children
            .iter()
            .rev()
            .find(|child| names.contains(&child.word(0)))
    }
}

/// More is no config, and would take too much of the stack.
const DEEPEST: usize = 32;

/// The statements of a file. What is not closed ends with the file.
pub(super) fn parse(text: &str) -> Vec<Node> {
    let mut open: Vec<Node> = vec![Node::default()];
    for (index, line) in text.lines().enumerate() {
        let mut statement = Node {
            line: index + 1,
            ..Node::default()
        };
        for word in words(line) {
            match word.as_str() {
                "{" if open.len() < DEEPEST => open.push(std::mem::take(&mut statement)),
                "{" => {}
                "}" => {
                    end(&mut open, std::mem::take(&mut statement));
                    close(&mut open);
                }
                _ => {
                    statement.line = index + 1;
                    statement.words.push(word);
                }
            }
        }
        end(&mut open, statement);
    }
    while open.len() > 1 {
        close(&mut open);
    }
    open.pop().map(|top| top.children).unwrap_or_default()
}

fn end(open: &mut [Node], statement: Node) {
    if let Some(parent) = open.last_mut()
        && !statement.words.is_empty()
    {
        parent.children.push(statement);
    }
}

fn close(open: &mut Vec<Node>) {
    if open.len() > 1
        && let Some(block) = open.pop()
        && let Some(parent) = open.last_mut()
    {
        parent.children.push(block);
    }
}

/// Words and braces; a text in quotes is one word.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut is_quoted = false;
    let mut is_word = false;
    for c in line.chars() {
        match c {
            '"' => {
                is_quoted = !is_quoted;
                is_word = true;
            }
            c if is_quoted => word.push(c),
            '#' | '!' => break,
            '{' | '}' => {
                if is_word {
                    words.push(std::mem::take(&mut word));
                    is_word = false;
                }
                words.push(c.to_string());
            }
            c if c.is_whitespace() => {
                if is_word {
                    words.push(std::mem::take(&mut word));
                    is_word = false;
                }
            }
            c => {
                word.push(c);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_statements() {
        let text = "! comment\nvirtual_server 10.0.0.1 80 {\n  delay_loop 6 # more\n\n  \
                    real_server 10.0.0.2 80 { weight 1\n TCP_CHECK { } }\n}\nscript \"a b\"";
        let nodes = parse(text);
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[0].words, ["virtual_server", "10.0.0.1", "80"]);
        assert_eq!((nodes[0].line, nodes[1].line), (2, 8));
        assert_eq!(nodes[0].value(&["delay_loop"]), Some("6"));
        let real = &nodes[0].children[1];
        assert_eq!(real.value(&["weight"]), Some("1"));
        assert!(real.child(&["TCP_CHECK"]).is_some());
        assert_eq!(nodes[1].words, ["script", "a b"]);
    }

    #[test]
    fn what_is_not_closed_or_too_deep_ends_all_the_same() {
        assert_eq!(parse("a { b { c").len(), 1);
        assert_eq!(parse("} } a").len(), 1);
        let _ = parse(&"a { ".repeat(100_000));
    }
}
