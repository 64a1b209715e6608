//! Reports of the control socket as values of the bus, and arguments the other way.

use serde_json::{Map, Number, Value as Json};

use super::blob::Malformed;
use super::blobmsg::{Members, Value, Writer};

/// Appends a value. Whole numbers are 64 bits wide whatever they are, so that a counter does not
/// change its type while it grows.
pub fn write(to: &mut Writer, name: &str, value: &Json) {
    match value {
        Json::Null => to.null(name),
        Json::Bool(is) => to.int8(name, i8::from(*is)),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => to.int64(name, number),
            (None, _) if number.is_u64() => to.int64(name, i64::MAX),
            (None, Some(number)) => to.double(name, number),
            (None, None) => to.null(name),
        },
        Json::String(text) => to.text(name, text),
        Json::Array(values) => {
            to.array(name, |to| values.iter().for_each(|value| write(to, "", value)));
        }
        Json::Object(members) => to.table(name, |to| write_all(to, members)),
    }
}

/// Appends the members of an object.
pub fn write_all(to: &mut Writer, members: &Map<String, Json>) {
    members.iter().for_each(|(name, value)| write(to, name, value));
}

/// Appends values as an array that ends at `len_max` bytes of everything written; how many.
pub fn write_some(to: &mut Writer, name: &str, values: &[Json], len_max: usize) -> usize {
    let mut count = 0;
    to.array(name, |to| {
        for value in values {
            let len = to.bytes().len();
            write(to, "", value);
            if to.bytes().len() > len_max {
                to.truncate(len);
                return;
            }
            count += 1;
        }
    });
    count
}

/// The members as an object; of several with one name the last.
pub fn read(members: Members<'_>) -> Result<Map<String, Json>, Malformed> {
    members.check()?;
    Ok(read_all(members))
}

fn read_all(members: Members<'_>) -> Map<String, Json> {
    members.flatten().map(|(name, value)| (name.to_owned(), read_one(value))).collect()
}

/// A value of members that were checked.
fn read_one(value: Value<'_>) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Array(values) => values.flatten().map(|(_, value)| read_one(value)).collect(),
        Value::Table(members) => Json::Object(read_all(members)),
        Value::Text(text) => text.into(),
        Value::Int64(number) => number.into(),
        Value::Int32(number) => number.into(),
        Value::Int16(number) => number.into(),
        Value::Int8(number) => (number != 0).into(),
        Value::Double(number) => Number::from_f64(number).map_or(Json::Null, Json::Number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_64_bits_wide_and_everything_else_keeps_its_type() {
        let value = serde_json::json!({
            "counter": 1, "most": u64::MAX, "below": i64::MIN, "half": 0.5, "yes": true,
            "none": null, "text": "a\u{0}b", "list": [1, ["x"], {}], "table": {"": false},
        });
        let mut writer = Writer::default();
        write_all(&mut writer, value.as_object().unwrap());
        let members = Members::new(writer.bytes());
        assert_eq!(members.get("counter"), Some(Value::Int64(1)));
        assert_eq!(members.get("most"), Some(Value::Int64(i64::MAX)));
        assert_eq!(members.get("below"), Some(Value::Int64(i64::MIN)));
        assert_eq!(members.get("yes"), Some(Value::Int8(1)));
        assert_eq!(members.text("text"), Some("ab"));
        let mut read = Json::Object(read(members).unwrap());
        read["most"] = u64::MAX.into();
        read["text"] = "a\u{0}b".into();
        assert_eq!(read, value);
    }

    #[test]
    fn a_list_ends_before_the_bound_and_says_how_far_it_came() {
        let values: Vec<Json> = (0..100).map(|n| format!("value {n}").into()).collect();
        let mut writer = Writer::default();
        let count = write_some(&mut writer, "list", &values, 500);
        assert!(writer.bytes().len() <= 500 && writer.bytes().len() > 460, "{writer:?}");
        let all = read(Members::new(writer.bytes())).unwrap();
        assert_eq!(all["list"].as_array().unwrap(), &values[..count]);
        let mut writer = Writer::default();
        assert_eq!(write_some(&mut writer, "list", &values, 1 << 20), 100);
    }
}
