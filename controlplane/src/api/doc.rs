//! What a route says about itself: for the OpenAPI document, and for the test that replays it.
//! Owns:  `Doc`, and small words for JSON schemas.
//! Gives: bodies, parameters, answers with examples; schemas of answers follow from their examples.
//! Never: an answer that the route does not give: a test asks every route and compares.
//! Holds: an example is a whole request or a whole answer.

use serde_json::{Map, Value, json};

use super::Code;

#[derive(Clone, Debug)]
pub struct Doc {
    pub(super) summary: &'static str,
    /// Not built: whoever asks hears so.
    pub(super) is_missing: bool,
    /// What it cannot do yet although it can be asked for: that is answered 501.
    pub(super) lacks: Vec<&'static str>,
    /// Parameters of the path: a value that a test can ask with, and the others if there are few.
    pub(super) path: Vec<PathParam>,
    pub(super) query: Vec<Param>,
    pub(super) body: Option<Body>,
    pub(super) answers: Vec<Answer>,
    pub(super) refuses: Vec<Code>,
    /// Its answers carry an ETag, its writes take If-Match.
    pub(super) is_versioned: bool,
}

#[derive(Clone, Debug)]
pub(super) struct PathParam {
    pub(super) name: &'static str,
    pub(super) example: String,
    pub(super) words: Vec<&'static str>,
}

#[derive(Clone, Debug)]
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) schema: Value,
    pub(super) text: &'static str,
}

#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) schema: Value,
    /// Each leads to the first answer.
    pub(super) examples: Vec<Value>,
    /// A form with the same fields is taken too.
    pub(super) or_form: bool,
    /// It may be left out.
    pub(super) or_nothing: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: &'static str,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Of this media type.
    File(&'static str),
    /// Like this example, by this schema.
    Json {
        example: Value,
        schema: Value,
    },
    None,
}

impl Doc {
    pub(super) const fn new(summary: &'static str) -> Self {
        Self {
            summary,
            is_missing: false,
            lacks: Vec::new(),
            path: Vec::new(),
            query: Vec::new(),
            body: None,
            answers: Vec::new(),
            refuses: Vec::new(),
            is_versioned: false,
        }
    }

    /// Of a path that answers 501.
    pub(super) fn missing() -> Self {
        Self { is_missing: true, ..Self::new("Not built yet") }.refuses(&[Code::NotBuilt])
    }

    /// A part that answers 501.
    pub(super) fn lacks(mut self, part: &'static str) -> Self {
        self.lacks.push(part);
        self.refuses(&[Code::NotBuilt])
    }

    /// A value for a parameter of the path.
    pub(super) fn at(mut self, name: &'static str, example: impl Into<String>) -> Self {
        self.path.push(PathParam { name, example: example.into(), words: Vec::new() });
        self
    }

    /// A parameter of the path that is one of these; the first one is the example.
    pub(super) fn at_one_of(mut self, name: &'static str, words: &[&'static str]) -> Self {
        let example = words.first().copied().unwrap_or_default().to_owned();
        self.path.push(PathParam { name, example, words: words.to_vec() });
        self
    }

    pub(super) fn query(mut self, name: &'static str, schema: Value, text: &'static str) -> Self {
        self.query.push(Param { name, schema, text });
        self
    }

    /// `limit` and `cursor`.
    pub(super) fn pages(self) -> Self {
        self.query("limit", number(1, 500), "How many, 50 if not said").query(
            "cursor",
            text(),
            "next_cursor or prev_cursor of another page",
        )
    }

    pub(super) fn body(mut self, schema: Value, example: Value) -> Self {
        let examples = vec![example];
        self.body = Some(Body { schema, examples, or_form: false, or_nothing: false });
        self.refuses(&[Code::BodyUnreadable, Code::BodyTooLong])
    }

    /// More examples of the body.
    pub(super) fn bodies(mut self, examples: impl IntoIterator<Item = Value>) -> Self {
        if let Some(body) = &mut self.body {
            body.examples.extend(examples);
        }
        self
    }

    pub(super) fn or_form(mut self) -> Self {
        if let Some(body) = &mut self.body {
            body.or_form = true;
        }
        self
    }

    pub(super) fn or_nothing(mut self) -> Self {
        if let Some(body) = &mut self.body {
            body.or_nothing = true;
        }
        self
    }

    /// The first one that is added is what the examples of the request lead to.
    pub(super) fn answer(self, status: u16, text: &'static str, example: Value) -> Self {
        let schema = shape_of(&example);
        self.push(status, text, Content::Json { example, schema })
    }

    /// With a schema that allows more than what follows from the example.
    pub(super) fn answer_by(
        self,
        status: u16,
        text: &'static str,
        example: Value,
        schema: Value,
    ) -> Self {
        self.push(status, text, Content::Json { example, schema })
    }

    pub(super) fn empty(self, status: u16, text: &'static str) -> Self {
        self.push(status, text, Content::None)
    }

    pub(super) fn file(self, status: u16, text: &'static str, media: &'static str) -> Self {
        self.push(status, text, Content::File(media))
    }

    fn push(mut self, status: u16, text: &'static str, content: Content) -> Self {
        self.answers.push(Answer { status, text, content });
        self
    }

    /// Problems of its own; those that every route can have need no word.
    pub(super) fn refuses(mut self, codes: &[Code]) -> Self {
        self.refuses.extend_from_slice(codes);
        self
    }

    pub(super) fn versioned(mut self) -> Self {
        self.is_versioned = true;
        self
    }
}

pub(super) fn text() -> Value {
    json!({ "type": "string" })
}

pub(super) fn text_or_null() -> Value {
    json!({ "type": ["string", "null"] })
}

pub(super) fn word(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}

pub(super) fn flag() -> Value {
    json!({ "type": "boolean" })
}

pub(super) fn number(least: i64, most: i64) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most })
}

pub(super) fn list_of(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

/// An object with these fields and no others; a name with `!` before it must be there.
pub(super) fn object(fields: &[(&str, Value)]) -> Value {
    let bare = |name: &str| name.trim_start_matches('!').to_owned();
    let properties: Map<String, Value> =
        fields.iter().map(|(name, schema)| (bare(name), schema.clone())).collect();
    let required: Vec<String> = fields
        .iter()
        .filter(|(name, _)| name.starts_with('!'))
        .map(|(name, _)| bare(name))
        .collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// What values look like that look like this one. Its fields are there, some may be null, and there may
/// be others: clients of today go on when we add something.
pub(super) fn shape_of(example: &Value) -> Value {
    match example {
        Value::Null => json!({}),
        Value::Bool(_) => json!({ "type": ["boolean", "null"] }),
        Value::Number(number) if number.is_f64() => json!({ "type": ["number", "null"] }),
        Value::Number(_) => json!({ "type": ["integer", "null"] }),
        Value::String(_) => json!({ "type": ["string", "null"] }),
        Value::Array(list) => {
            let items = list.first().map_or_else(|| json!({}), shape_of);
            json!({ "type": ["array", "null"], "items": items })
        }
        Value::Object(fields) => {
            let properties: Map<String, Value> =
                fields.iter().map(|(name, value)| (name.clone(), shape_of(value))).collect();
            let required: Vec<&String> = fields.keys().collect();
            json!({ "type": ["object", "null"], "properties": properties, "required": required })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_fields_have_a_mark_and_it_is_not_part_of_the_name() {
        let schema = object(&[("!name", text()), ("age", number(0, 200))]);
        assert_eq!(schema["required"], json!(["name"]));
        assert_eq!(schema["properties"]["age"]["maximum"], 200);
    }

    #[test]
    fn a_shape_follows_its_example_all_the_way_down() {
        let shape = shape_of(&json!({ "a": [{ "b": 1.5 }], "c": null }));
        assert_eq!(shape["required"], json!(["a", "c"]));
        let b = &shape["properties"]["a"]["items"]["properties"]["b"];
        assert_eq!(b["type"], json!(["number", "null"]));
        assert_eq!(shape["properties"]["c"], json!({}));
    }
}
