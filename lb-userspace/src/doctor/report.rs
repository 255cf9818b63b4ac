//! What was found.

use std::fmt;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth to know; nothing is wrong.
    Note,
    /// Some packets, or the next restart, will suffer.
    Warning,
    /// Packets are lost now, or would be.
    Error,
}

impl Severity {
    /// As it is shown.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The probe's word for it, which does not change.
    pub check: &'static str,
    /// What it is about: an interface, a service, a backend; empty for the host.
    pub subject: String,
    /// What was found.
    pub found: String,
    /// Why it matters.
    pub why: String,
    /// What to do, as a command where there is one.
    pub cure: String,
}

impl Finding {
    /// A finding, still without reason and cure.
    pub(super) fn new(
        severity: Severity,
        check: &'static str,
        subject: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            check,
            subject: subject.into(),
            found: found.into(),
            why: String::new(),
            cure: String::new(),
        }
    }

    /// Says why it matters.
    pub(super) fn why(self, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { why, ..self }
    }

    /// Says what to do.
    pub(super) fn cure(self, cure: impl Into<String>) -> Self {
        let cure = cure.into();
        Self { cure, ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8}", self.severity.word())?;
        if !self.subject.is_empty() {
            write!(f, "{}: ", self.subject)?;
        }
        write!(
            f,
            "{} [{}]\n  why:  {}\n  cure: ",
            self.found, self.check, self.why
        )?;
        f.write_str(&self.cure.replace('\n', "\n        "))
    }
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order they were looked for.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing is wrong; notes are nothing wrong.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.count(Severity::Error) + self.count(Severity::Warning) == 0
    }

    /// How many findings there are of a severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        let findings = self.findings.iter();
        findings.filter(|one| one.severity == severity).count()
    }
}

/// The checks of findings, for rows of tests.
#[cfg(test)]
pub(super) fn checks(findings: &[Finding]) -> Vec<&'static str> {
    for finding in findings {
        assert!(
            !finding.found.is_empty() && !finding.why.is_empty() && !finding.cure.is_empty(),
            "{finding:?}"
        );
    }
    findings.iter().map(|one| one.check).collect()
}
