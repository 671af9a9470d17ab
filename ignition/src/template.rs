//! Filling the real files under `templates/`.

/// The template with each `{{name}}` replaced by its value.
///
/// Templates and names are both part of this crate, so a name that is missing on either side is our own mistake:
/// every template is filled by a test.
pub(crate) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = template.to_owned();
    for (name, value) in values {
        let placeholder = format!("{{{{{name}}}}}");
        debug_assert!(text.contains(&placeholder), "no {placeholder} in the template");
        text = text.replace(&placeholder, value);
    }
    debug_assert!(!text.contains("{{"), "a placeholder is left in the template:\n{text}");
    text
}
