//! What a sweep came to, as a page.

mod facet;
mod heat;
mod lines;
mod page;

pub(super) use page::sweep_page;
