//! Aligned columns of plain text.

use crate::text::plain;

/// Rows of cells under a heading; every cell is escaped on its way in.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column headings.
    #[must_use]
    pub(super) fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(ToString::to_string).collect()] }
    }

    /// Adds a row.
    pub(super) fn row<I>(&mut self, cells: I)
    where
        I: IntoIterator,
        I::Item: ToString,
    {
        self.rows
            .push(cells.into_iter().map(|cell| plain(&cell.to_string()).into_owned()).collect());
    }

    /// Whether there is nothing but the heading.
    #[must_use]
    pub(super) const fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell: &String| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let padding = width - cell.chars().count();
                if cell.starts_with(|c: char| c.is_ascii_digit()) && cell.parse::<u64>().is_ok() {
                    line.extend(std::iter::repeat_n(' ', padding));
                    line.push_str(cell);
                } else {
                    line.push_str(cell);
                    line.extend(std::iter::repeat_n(' ', padding));
                }
                line.push_str("  ");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_cells_escaped() {
        let mut table = Table::new(&["name", "packets"]);
        table.row(["a\x1b", "7"]);
        table.row(["longer name", "1234567890"]);
        assert_eq!(
            table.to_string(),
            "name         packets\na\\u{1b}               7\nlonger name  1234567890\n"
        );
    }
}
