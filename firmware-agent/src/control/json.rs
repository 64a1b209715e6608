//! Reports out of values of JSON. The reader of `serde_json` takes each structure from an array as well, which is code
//! for each of them that nobody writes anything for: here a structure is an object.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected,
    IntoDeserializer as _, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde_json::{Error, Value, map};

/// Reads a report.
pub fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    T::deserialize(Reader(value))
}

/// A value that is read.
#[derive(Clone, Copy)]
pub(super) struct Reader<'de>(pub(super) &'de Value);

impl Reader<'_> {
    /// Says that the value is none of those that are expected.
    #[cold]
    fn wrong(self, expected: &dyn Expected) -> Error {
        let unexpected = match self.0 {
            Value::Null => Unexpected::Unit,
            Value::Bool(is) => Unexpected::Bool(*is),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => Unexpected::Unsigned(number),
                (None, Some(number)) => Unexpected::Signed(number),
                (None, None) => Unexpected::Float(number.as_f64().unwrap_or_default()),
            },
            Value::String(text) => Unexpected::Str(text),
            Value::Array(_) => Unexpected::Seq,
            Value::Object(_) => Unexpected::Map,
        };
        Error::invalid_type(unexpected, expected)
    }
}

/// Methods that know one kind of value.
macro_rules! kinds {
    ($($method:ident: $($pattern:pat => $visit:expr),+;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0 {
                $($pattern => $visit(visitor),)+
                _ => Err(self.wrong(&visitor)),
            }
        }
    )*};
}

/// Methods that do what another one does.
macro_rules! same {
    ($($method:ident)* => $other:ident) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.$other(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(is) => visitor.visit_bool(*is),
            Value::Number(_) => self.deserialize_u64(visitor),
            Value::String(text) => visitor.visit_str(text),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
        }
    }

    kinds! {
        deserialize_bool: Value::Bool(is) => |visitor: V| visitor.visit_bool(*is);
        deserialize_u64: Value::Number(number) => |visitor| number.deserialize_any(visitor);
        deserialize_str: Value::String(text) => |visitor: V| visitor.visit_str(text);
        deserialize_unit: Value::Null => |visitor: V| visitor.visit_unit();
        deserialize_seq: Value::Array(values) => |visitor: V| visitor.visit_seq(Values(values.iter()));
        deserialize_map: Value::Object(members) => |visitor: V| {
            visitor.visit_map(Members { rest: members.iter(), value: &Value::Null })
        };
    }
    same! { deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 => deserialize_u64 }
    same! { deserialize_u8 deserialize_u16 deserialize_u32 => deserialize_u64 }
    same! { deserialize_f32 deserialize_f64 => deserialize_u64 }
    same! { deserialize_char deserialize_string deserialize_identifier => deserialize_str }
    same! { deserialize_bytes deserialize_byte_buf => deserialize_any }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::String(name) => visitor.visit_enum(Variant { name, content: &Value::Null }),
            Value::Object(members) if members.len() == 1 => match members.iter().next() {
                Some((name, content)) => visitor.visit_enum(Variant { name, content }),
                None => Err(self.wrong(&visitor)),
            },
            _ => Err(self.wrong(&visitor)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

/// Elements of an array that have not been read.
struct Values<'de>(std::slice::Iter<'de, Value>);

impl<'de> SeqAccess<'de> for Values<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|value| seed.deserialize(Reader(value))).transpose()
    }
}

/// Members of an object that have not been read, and the value of the last one whose name was.
struct Members<'de> {
    rest: map::Iter<'de>,
    value: &'de Value,
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((name, value)) = self.rest.next() else { return Ok(None) };
        self.value = value;
        seed.deserialize(name.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(Reader(self.value))
    }
}

/// A variant and what it has.
struct Variant<'de> {
    name: &'de str,
    content: &'de Value,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Error;
    type Variant = Reader<'de>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), Error> {
        let name: StrDeserializer<'_, Error> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, Reader(self.content)))
    }
}

impl<'de> VariantAccess<'de> for Reader<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        serde::Deserialize::deserialize(self)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::IpAddr;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        at: IpAddr,
        #[serde(default)]
        is: bool,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Plain,
        With { more: u8 },
        Of(Vec<u8>),
        Pair(i64, f64),
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Flat {
        #[serde(flatten)]
        inner: Inner,
        port: u16,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Outer {
        name: String,
        kinds: Vec<Kind>,
        by_name: BTreeMap<String, Option<u64>>,
        any: Value,
        pair: (i32, char),
        inner: Option<Inner>,
    }

    /// What `serde_json` reads from the same value, and it alone.
    fn reads<T: DeserializeOwned + std::fmt::Debug + PartialEq>(
        value: &Value,
    ) -> Result<T, String> {
        let ours = read::<T>(value).map_err(|error| error.to_string());
        let theirs = serde_json::from_value::<T>(value.clone()).map_err(|error| error.to_string());
        assert_eq!(ours, theirs, "{value}");
        ours
    }

    #[test]
    fn reports_are_read_as_serde_json_reads_them() {
        let outer = json!({
            "name": "ü", "kinds": ["plain", {"with": {"more": 7}}, {"of": [1, 2]}, {"pair": [-1, 0.5]}],
            "by_name": {"a": 1, "b": null, "most": u64::MAX}, "any": [null, {"x": [-1, 1.5, "y"]}, true],
            "pair": [-7, "c"], "inner": {"at": "2001:db8::1", "is": true}, "left": {"out": [1]},
        });
        let whole: Outer = reads(&outer).unwrap();
        assert_eq!(whole.any, outer["any"]);
        reads::<Flat>(&json!({"port": 9, "at": "192.0.2.1"})).unwrap();
        // Without a member, or with another in its place.
        for name in outer.as_object().unwrap().keys() {
            let mut short = outer.clone();
            short.as_object_mut().unwrap().remove(name);
            let _ = reads::<Outer>(&short);
            for wrong in
                [json!(null), json!(true), json!(-1), json!(1.5), json!("x"), json!({"a": {}})]
            {
                let mut other = outer.clone();
                other[name] = wrong;
                let _ = reads::<Outer>(&other);
            }
        }
        for kind in [json!("none"), json!({"plain": null}), json!({"of": 1})] {
            let _ = reads::<Kind>(&kind);
        }
    }

    #[test]
    fn a_structure_is_not_read_from_an_array() {
        let error = read::<Inner>(&json!(["192.0.2.1", true])).unwrap_err();
        assert_eq!(error.to_string(), "invalid type: sequence, expected struct Inner");
    }
}
