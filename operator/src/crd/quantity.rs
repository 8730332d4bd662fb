//! A Kubernetes quantity: a number, or a number with a suffix such as `256Mi` or `500m`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};

/// Decimal digits after the point that count; Kubernetes rounds what is finer up to the next nano.
const FRACTION_DIGITS: u32 = 9;

/// A quantity as its user wrote it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

/// Why a text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no quantity, expected a number with an optional suffix such as 500m, 2, 256Mi or 1Gi")]
pub struct QuantityError(String);

/// A value in billionths and how it was written, which decides how Kubernetes writes it back.
struct Parsed {
    nanos: i128,
    is_binary: bool,
}

impl Quantity {
    /// The whole number of bytes (or other units) it means, rounded up.
    pub fn value(&self) -> Result<u64, QuantityError> {
        let nanos = self.parse()?.nanos;
        u64::try_from((nanos + 999_999_999).div_euclid(1_000_000_000)).map_err(|_| QuantityError(self.0.clone()))
    }

    /// The way the API server writes it, so that what it stored compares equal to what was sent: `1000m` is `1`, `1024Mi` is `1Gi`.
    pub fn canonical(&self) -> Result<String, QuantityError> {
        let Parsed { nanos, is_binary } = self.parse()?;
        let whole = nanos / 1_000_000_000;
        // A binary quantity with a fraction is written decimally by Kubernetes.
        if is_binary && nanos % 1_000_000_000 == 0 && whole.abs() >= 1024 {
            let suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
            let mut value = whole;
            let mut index = 0;
            while value % 1024 == 0 && index + 1 < suffixes.len() {
                value /= 1024;
                index += 1;
            }
            return Ok(format!("{value}{}", suffixes[index]));
        }
        let suffixes = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
        let mut value = nanos;
        let mut index = 0;
        if value == 0 {
            return Ok("0".to_owned());
        }
        while value % 1000 == 0 && index + 1 < suffixes.len() {
            value /= 1000;
            index += 1;
        }
        Ok(format!("{value}{}", suffixes[index]))
    }

    fn parse(&self) -> Result<Parsed, QuantityError> {
        let refused = || QuantityError(self.0.clone());
        let text = self.0.as_str();
        let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (scale, is_binary): (i128, bool) = match suffix {
            "" => (1_000_000_000, false),
            "n" => (1, false),
            "u" => (1_000, false),
            "m" => (1_000_000, false),
            "k" => (1_000_000_000_000, false),
            "M" => (1_000_000_000_000_000, false),
            "G" => (1_000_000_000_000_000_000, false),
            "T" => (1_000_000_000_000_000_000_000, false),
            "P" => (1_000_000_000_000_000_000_000_000, false),
            "E" => (1_000_000_000_000_000_000_000_000_000, false),
            "Ki" => (1_000_000_000 << 10, true),
            "Mi" => (1_000_000_000 << 20, true),
            "Gi" => (1_000_000_000 << 30, true),
            "Ti" => (1_000_000_000 << 40, true),
            "Pi" => (1_000_000_000 << 50, true),
            "Ei" => (1_000_000_000 << 60, true),
            exponent => {
                let digits = exponent.strip_prefix(['e', 'E']).ok_or_else(refused)?;
                let exponent: u32 = digits.strip_prefix('+').unwrap_or(digits).parse().map_err(|_| refused())?;
                if exponent > 18 {
                    return Err(refused());
                }
                (1_000_000_000 * 10_i128.pow(exponent), false)
            }
        };
        let (negative, digits) = match number.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, number.strip_prefix('+').unwrap_or(number)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty()) || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
            return Err(refused());
        }
        if whole.len() > 18 || fraction.len() > FRACTION_DIGITS as usize {
            return Err(refused());
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| refused())? };
        let places = u32::try_from(fraction.len()).map_err(|_| refused())?;
        let fraction: i128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| refused())? };
        let denominator = 10_i128.pow(places);
        let scaled = whole.checked_mul(scale).and_then(|value| value.checked_add((fraction * scale + denominator - 1) / denominator));
        let nanos = scaled.ok_or_else(refused)?;
        Ok(Parsed { nanos: if negative { -nanos } else { nanos }, is_binary })
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Quantity;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a quantity such as 500m, 2 or 256Mi")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Quantity, E> {
                Ok(Quantity(text.to_owned()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Quantity, E> {
                Ok(Quantity(number.to_string()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // The very words Kubernetes' own generators use for a quantity.
        json_schema!({
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "x-kubernetes-int-or-string": true,
            "pattern": r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$",
            "maxLength": 32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        Quantity(text.to_owned())
    }

    #[test]
    fn values_are_bytes_rounded_up() {
        for (text, value) in
            [("0", 0), ("1", 1), ("1k", 1000), ("1Ki", 1024), ("1.5Gi", 1_610_612_736), ("100m", 1), ("2e3", 2000), ("1M", 1_000_000)]
        {
            assert_eq!(quantity(text).value(), Ok(value), "{text}");
        }
    }

    #[test]
    fn the_canonical_form_is_the_one_the_api_server_stores() {
        for (text, canonical) in [
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("2e3", "2k"),
            ("0", "0"),
            ("0Mi", "0"),
            ("512Ki", "512Ki"),
        ] {
            assert_eq!(quantity(text).canonical().as_deref(), Ok(canonical), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_named() {
        for text in ["", "Mi", "1 Mi", "1mi", "1.2.3", "--1", "1e99", "abc"] {
            assert!(quantity(text).value().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_quantities_too() {
        let list: Vec<Quantity> = serde_json::from_str(r#"[1, "2Gi", 0.5]"#).unwrap();
        assert_eq!(list, [quantity("1"), quantity("2Gi"), quantity("0.5")]);
    }
}
