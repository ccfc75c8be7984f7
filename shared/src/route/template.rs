//! What a rule writes in place of a value: text with `{n}` for what a pattern caught.
//! Owns:  the form of a template.
//! Gives: `Template::parse`; the parts in order.
//! Never: the captures themselves; those belong to one call.
//! Holds: a number in a template is one of the groups of the pattern that it draws from.

/// Text that is written whole, with room for a long URI.
const TEMPLATE_BYTES_MAX: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pub text: Box<str>,
    pub parts: Vec<Part>,
    /// The place of the condition whose pattern caught the groups; without one `{0}` is the value
    /// that is written over.
    pub source: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Group(usize),
    Text(Box<str>),
}

impl Template {
    /// The error says what is wrong, in one line. `source` is still open.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(format!("is longer than {TEMPLATE_BYTES_MAX} bytes"));
        }
        if let Some(odd) = text.chars().find(|c| c.is_control()) {
            return Err(format!("{odd:?} cannot be written into a message"));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            push_text(&mut parts, before)?;
            let (number, behind) = behind.split_once('}').ok_or("a { is not closed")?;
            let group = number
                .parse()
                .map_err(|_| format!("{{{number}}} is not the number of a group, such as {{1}}"))?;
            parts.push(Part::Group(group));
            rest = behind;
        }
        push_text(&mut parts, rest)?;
        Ok(Self { text: text.into(), parts, source: None })
    }

    /// The highest group that it asks for; `None` when it asks for none.
    pub fn highest_group(&self) -> Option<usize> {
        let groups = self.parts.iter().filter_map(|part| match part {
            Part::Group(group) => Some(*group),
            Part::Text(_) => None,
        });
        groups.max()
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) -> Result<(), String> {
    if text.contains('}') {
        return Err("a } has no { before it".to_owned());
    }
    if !text.is_empty() {
        parts.push(Part::Text(text.into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_and_groups_in_order() {
        let parts = |text| Template::parse(text).map(|template| template.parts);
        let text = |text: &str| Part::Text(text.into());
        assert_eq!(parts("00{1}"), Ok(vec![text("00"), Part::Group(1)]));
        assert_eq!(parts("{1}-{2}"), Ok(vec![Part::Group(1), text("-"), Part::Group(2)]));
        assert_eq!(parts(""), Ok(Vec::new()));
        assert_eq!(Template::parse("a{3}{1}").map(|t| t.highest_group()), Ok(Some(3)));
        assert_eq!(Template::parse("abc").map(|t| t.highest_group()), Ok(None));
        for wrong in ["{", "a{1", "{}", "{x}", "a}b", "{-1}", "a\r\nb"] {
            assert!(parts(wrong).is_err(), "{wrong:?}");
        }
    }
}
