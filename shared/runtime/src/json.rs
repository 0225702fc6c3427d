//! Parses JSON and finds duplicate members. Of two members with one name, some parsers keep the first and others the
//! last.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Parses a body, and returns the paths of its duplicate members, such as `units.records`.
pub(crate) fn read(body: &[u8]) -> Result<(Value, BTreeSet<String>), serde_json::Error> {
    let mut repeated = BTreeSet::new();
    let mut parser = serde_json::Deserializer::from_slice(body);
    let value = Reader { path: "", repeated: &mut repeated }.deserialize(&mut parser)?;
    parser.end()?;
    Ok((value, repeated))
}

/// Builds a value as `serde_json` does, and records duplicate members.
struct Reader<'a> {
    path: &'a str,
    repeated: &'a mut BTreeSet<String>,
}

impl Reader<'_> {
    fn path_of(&self, member: &dyn fmt::Display) -> String {
        if self.path.is_empty() { member.to_string() } else { format!("{}.{member}", self.path) }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut read = Vec::new();
        loop {
            let path = self.path_of(&read.len());
            match items.next_element_seed(Reader { path: &path, repeated: &mut *self.repeated })? {
                Some(item) => read.push(item),
                None => return Ok(Value::Array(read)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let path = self.path_of(&name);
            let value = members.next_value_seed(Reader { path: &path, repeated: &mut *self.repeated })?;
            if read.insert(name, value).is_some() {
                self.repeated.insert(path);
            }
        }
        Ok(Value::Object(read))
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn duplicate_members_are_found_at_any_depth() {
        let body = br#"{"a":1,"b":{"c":[0,{"d":null,"d":{"e":1,"e":2}}],"b":3},"a":2,"a":3,"\u0061":4}"#;
        let (value, repeated) = read(body).unwrap();
        assert_eq!(repeated.into_iter().collect::<Vec<_>>(), ["a", "b.c.1.d", "b.c.1.d.e"]);
        assert_eq!(value["a"], 4);
        assert!(read(br#"[{"a":1},{"a":1}]"#).unwrap().1.is_empty());
    }

    #[test]
    fn values_equal_those_of_serde_json() {
        for body in [
            r#"{"a":[1,-2,3.5,1e30,-0,18446744073709551616,true,false,null,"x\ud83d\ude00\n"],"b":{}}"#,
            "[]",
            " 7 ",
            "\"text\"",
            "null",
        ] {
            let expected: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(read(body.as_bytes()).unwrap().0, expected, "{body}");
        }
        for bad in ["", "{", "{\"a\":1}x", "{\"a\":01}", "\"\u{1}\"", "nul"] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(read("[".repeat(1_000).as_bytes()).is_err(), "1000 nested arrays exceed the depth limit");
    }
}
