//! Numbers.

use std::ops::RangeInclusive;

use serde_json::json;
use toml::{Spanned, de::DeValue};

use super::refuse;
use crate::config::schema::{Refusal, Rule};

/// A whole number within limits.
pub(in crate::config) struct Whole<T>(pub(in crate::config) RangeInclusive<T>);

impl<T: TryFrom<i128> + Into<u64> + Copy> Rule for Whole<T> {
    type Value = T;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<T, Vec<Refusal>> {
        let (least, most): (u64, u64) = ((*self.0.start()).into(), (*self.0.end()).into());
        let DeValue::Integer(integer) = value.get_ref() else {
            return refuse(
                value.get_ref(),
                format!("is not a whole number (allowed: {least} to {most})"),
            );
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        match number.filter(|number| (least.into()..=most.into()).contains(number)) {
            Some(number) => {
                T::try_from(number).or_else(|_| refuse(value.get_ref(), "is out of range"))
            }
            None => refuse(
                value.get_ref(),
                format!("is out of range (allowed: {least} to {most})"),
            ),
        }
    }

    fn allowed(&self) -> String {
        let (least, most): (u64, u64) = ((*self.0.start()).into(), (*self.0.end()).into());
        format!("whole number, {least} to {most}")
    }

    fn show(&self, value: &T) -> String {
        let value: u64 = (*value).into();
        value.to_string()
    }

    fn schema(&self) -> serde_json::Value {
        let (least, most): (u64, u64) = ((*self.0.start()).into(), (*self.0.end()).into());
        json!({ "type": "integer", "minimum": least, "maximum": most })
    }
}

/// Seconds, with or without a fraction.
pub(in crate::config) struct Seconds(pub(in crate::config) RangeInclusive<f64>);

impl Rule for Seconds {
    type Value = f64;

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<f64, Vec<Refusal>> {
        let allowed = format!("(allowed: {} to {})", self.0.start(), self.0.end());
        let number = match value.get_ref() {
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            DeValue::Integer(integer) =>
            {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "what is not exact is out of range"
                )]
                i128::from_str_radix(integer.as_str(), integer.radix())
                    .ok()
                    .map(|whole| whole as f64)
            }
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                return refuse(value.get_ref(), format!("is not a number {allowed}"));
            }
        };
        match number.filter(|number| self.0.contains(number)) {
            Some(number) => Ok(number),
            None => refuse(value.get_ref(), format!("is out of range {allowed}")),
        }
    }

    fn allowed(&self) -> String {
        format!("number, {} to {}", self.0.start(), self.0.end())
    }

    fn show(&self, value: &f64) -> String {
        format!("{value:?}")
    }

    fn schema(&self) -> serde_json::Value {
        json!({ "type": "number", "minimum": self.0.start(), "maximum": self.0.end() })
    }
}
