//! The question, as the query of a URL.

use lb_common::verdict::Verdict;

use super::LONGEST;
use crate::query_string;

/// Which packets are captured, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Only those of this service.
    pub service: Option<String>,
    /// Only those with such a verdict: a label, in which `*` stands for anything; none for all.
    pub verdicts: Vec<String>,
    /// Look at one packet in so many.
    pub sample: u32,
    /// End after so many packets; 0 for never.
    pub count: u64,
    /// End after so many seconds; 0 for never.
    pub seconds: u32,
    /// Bytes of each frame.
    pub snap: u32,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            service: None,
            verdicts: Vec::new(),
            sample: 1,
            count: 0,
            seconds: 0,
            snap: LONGEST,
        }
    }
}

impl Query {
    /// As the query of a URL, without the question mark.
    #[must_use]
    pub fn encode(&self) -> String {
        query_string::encode([
            ("service", self.service.clone()),
            (
                "verdict",
                (!self.verdicts.is_empty()).then(|| self.verdicts.join(",")),
            ),
            ("sample", Some(self.sample.to_string())),
            ("count", Some(self.count.to_string())),
            ("seconds", Some(self.seconds.to_string())),
            ("snaplen", Some(self.snap.to_string())),
        ])
    }

    /// From the query of a URL.
    ///
    /// # Errors
    /// With a sentence about what is wrong in it.
    pub fn decode(text: &str) -> Result<Self, String> {
        fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
            value
                .parse()
                .map_err(|_| format!("{name}: {value:?} is no number, or too large"))
        }
        let mut query = Self::default();
        for pair in query_string::decode(text) {
            let (name, value) = pair?;
            match name {
                "service" => query.service = Some(value),
                "verdict" => {
                    let words = value.split(',').map(|word| word.trim().to_owned());
                    query.verdicts = words.filter(|word| !word.is_empty()).collect();
                }
                "sample" => query.sample = number(name, &value)?,
                "count" => query.count = number(name, &value)?,
                "seconds" => query.seconds = number(name, &value)?,
                "snaplen" => query.snap = number(name, &value)?,
                _ => {
                    return Err(format!(
                        "{name:?} is nothing that can be asked of a capture (allowed: service, \
                         verdict, sample, count, seconds, snaplen)"
                    ));
                }
            }
        }
        if query.sample == 0 {
            return Err("sample: 0 packets is none; 1 is every packet".to_owned());
        }
        if !(1..=LONGEST).contains(&query.snap) {
            return Err(format!(
                "snaplen: {} is not between 1 and {LONGEST}",
                query.snap
            ));
        }
        verdicts(&query.verdicts)?;
        Ok(query)
    }
}

/// A bit for each verdict that one of the patterns names; all for no pattern.
///
/// # Errors
/// With a sentence, when a pattern names none.
pub fn verdicts(patterns: &[String]) -> Result<u64, String> {
    if patterns.is_empty() {
        return Ok(u64::MAX);
    }
    let mut bits = 0;
    for pattern in patterns {
        let named = Verdict::ALL
            .into_iter()
            .filter(|verdict| matches(pattern, verdict.label()));
        let named = named.fold(0, |bits, verdict| bits | 1 << verdict as u64);
        if named == 0 {
            let labels = Verdict::ALL.map(Verdict::label).join(", ");
            return Err(format!(
                "verdict: {pattern:?} names none (there are: {labels}; * stands for anything)"
            ));
        }
        bits |= named;
    }
    Ok(bits)
}

/// Whether a pattern, in which `*` stands for anything, fits a label.
fn matches(pattern: &str, label: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == label;
    };
    let Some(label) = label.strip_prefix(start) else {
        return false;
    };
    // The shortest part may be right, so each is tried.
    (0..=label.len()).any(|at| label.is_char_boundary(at) && matches(rest, &label[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_survives_the_way_to_the_agent() {
        let all = Query {
            service: Some("web & more".to_owned()),
            verdicts: vec!["drop_*".to_owned(), "steered".to_owned()],
            sample: 7,
            count: 8,
            seconds: 9,
            snap: 96,
        };
        for query in [Query::default(), all] {
            assert_eq!(Query::decode(&query.encode()), Ok(query));
        }
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_a_sentence() {
        for (text, word) in [
            ("sample=0", "1 is every packet"),
            ("sample=x", "no number"),
            ("snaplen=0", "between 1 and 4096"),
            ("snaplen=5000", "between 1 and 4096"),
            ("verdict=dropped", "drop_no_backend"),
            ("colour=red", "allowed: service"),
        ] {
            let sentence = Query::decode(text).unwrap_err();
            assert!(sentence.contains(word), "{text}: {sentence}");
        }
    }

    #[test]
    fn patterns_name_verdicts() {
        let bits = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
            verdicts(&patterns).unwrap()
        };
        let bit = |verdict: Verdict| 1 << verdict as u64;
        assert_eq!(bits(&[]), u64::MAX);
        assert_eq!(bits(&["steered"]), bit(Verdict::Steered));
        assert_ne!(bits(&["steered*"]), bit(Verdict::Steered));
        assert_eq!(
            bits(&["*_martian", "pass_arp"]),
            bit(Verdict::DropMartian) | bit(Verdict::PassArp)
        );
        let drops = bits(&["drop_*"]);
        for verdict in Verdict::ALL {
            let is_drop = verdict.label().starts_with("drop_");
            assert_eq!(drops & bit(verdict) != 0, is_drop, "{verdict:?}");
        }
    }
}
