//! Plain tables: columns as wide as they must be, numbers to the right.

/// A table under construction.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

#[derive(Debug)]
struct Column {
    title: &'static str,
    align: Align,
}

/// Which side a column's cells lean to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

impl Table {
    /// A table of the given columns; a title that starts with `>` leans to the right.
    pub(crate) fn new(titles: &[&'static str]) -> Self {
        let columns = titles
            .iter()
            .map(|title| match title.strip_prefix('>') {
                Some(title) => Column { title, align: Align::Right },
                None => Column { title, align: Align::Left },
            })
            .collect();
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty, cells too many are dropped.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().take(self.columns.len()).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// The lines, the titles first (bold where colour is welcome), no blanks at the ends.
    pub(crate) fn render(&self, color: bool) -> String {
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| {
                let cells = self.rows.iter().map(|row| width(&row[index]));
                cells.fold(width(column.title), usize::max)
            })
            .collect();
        let titles: Vec<String> =
            self.columns.iter().map(|column| column.title.to_uppercase()).collect();
        let head = self.line(&titles, &widths);
        let head = if color { format!("\x1b[1m{head}\x1b[0m") } else { head };
        let body = self.rows.iter().map(|row| self.line(row, &widths));
        std::iter::once(head).chain(body).collect::<Vec<_>>().join("\n")
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let padded: Vec<String> = cells
            .iter()
            .zip(widths)
            .zip(&self.columns)
            .map(|((cell, wide), column)| {
                let blanks = " ".repeat(wide - width(cell));
                match column.align {
                    Align::Left => format!("{cell}{blanks}"),
                    Align::Right => format!("{blanks}{cell}"),
                }
            })
            .collect();
        padded.join("  ").trim_end().to_owned()
    }
}

/// Our cells hold no wide or combining characters, so characters are columns.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["name", ">bytes", "state"]);
        table.row(["demo/a", "12", "ready"].map(String::from));
        table.row(["x", "4096"].map(String::from));
        assert_eq!(
            table.render(false),
            "NAME    BYTES  STATE\ndemo/a     12  ready\nx        4096"
        );
        assert!(table.render(true).starts_with("\x1b[1mNAME"));
    }
}
