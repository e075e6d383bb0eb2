//! HTML in the making, into which no text gets unescaped.

use std::fmt::{self, Display, Write};

/// A piece of HTML. What is markup is written in this source; whatever else comes in is text.
#[derive(Clone, Debug, Default)]
pub(super) struct Markup(String);

impl Markup {
    pub fn new() -> Self {
        Self::default()
    }

    /// Markup as it is: of this source only, which is why it is static.
    pub fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text, fit for content and for attributes in quotes.
    pub fn text(&mut self, text: impl Display) -> &mut Self {
        // Nothing that is shown here fails, nor does a String.
        let _ = write!(Escape(&mut self.0), "{text}");
        self
    }

    /// An element with text in it.
    pub fn element(&mut self, name: &'static str, text: impl Display) -> &mut Self {
        self.raw("<")
            .raw(name)
            .raw(">")
            .text(text)
            .raw("</")
            .raw(name)
            .raw(">")
    }

    /// Another piece behind it.
    pub fn push(&mut self, other: &Self) -> &mut Self {
        self.0.push_str(&other.0);
        self
    }

    pub fn into_text(self) -> String {
        self.0
    }
}

struct Escape<'a>(&'a mut String);

impl Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // Not allowed in a document, whatever wrote it.
                '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\x7f' => {
                    self.0.push('\u{fffd}')
                }
                _ => self.0.push(letter),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        let mut markup = Markup::new();
        markup.element("p", "<script>\"a\" & 'b'\0</script>");
        let escaped = "<p>&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;\u{fffd}&lt;/script&gt;</p>";
        assert_eq!(markup.into_text(), escaped);
    }
}
