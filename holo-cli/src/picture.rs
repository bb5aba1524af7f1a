//! The ring as a picture in text: a circle of marks, one letter per node, beside each node's share.

use std::f64::consts::TAU;

use crate::quantity;

/// Rows above and below the middle of the circle.
const HALF_ROWS: f64 = 7.0;
/// Columns to the left and right of the middle: a character is about twice as high as wide.
const HALF_COLUMNS: f64 = 16.0;
/// Cells of a bar that stands for the whole ring.
const BAR_CELLS: usize = 30;
/// Colours of the first nodes: cyan, yellow, magenta, green, blue, red.
const COLORS: [u8; 6] = [36, 33, 35, 32, 34, 31];

/// What the picture shows.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    /// Shown in the middle.
    pub(crate) title: String,
    /// Index into `members` of the primary of each partition, in ring order; nobody's where there is none.
    pub(crate) owners: Vec<Option<usize>>,
    /// The nodes.
    pub(crate) members: Vec<Member>,
}

/// One node of the picture.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its name.
    pub(crate) name: String,
    /// A few digits of its id.
    pub(crate) id: String,
    /// Partitions that it holds a backup of.
    pub(crate) backups: usize,
    /// Shards that it holds; unknown when it did not answer.
    pub(crate) shards: Option<u64>,
    /// Bytes of its page frames in use.
    pub(crate) bytes: u64,
}

impl Ring {
    /// The lines of the picture; every line fits in 100 columns for names of up to 10 characters.
    pub(crate) fn draw(&self, color: bool) -> String {
        let circle = self.circle(color);
        let mut legend = self.legend(color);
        let above = (circle.len().saturating_sub(legend.len())) / 2;
        let mut beside = vec![String::new(); above];
        beside.append(&mut legend);
        beside.resize(beside.len().max(circle.len()), String::new());
        let blank = " ".repeat(circle_width());
        let rows = beside.iter().enumerate().map(|(row, text)| {
            let left = circle.get(row).unwrap_or(&blank);
            format!("  {left}   {text}").trim_end().to_owned()
        });
        rows.collect::<Vec<_>>().join("\n")
    }

    /// Partitions whose primary is `member`.
    fn partitions(&self, member: usize) -> usize {
        self.owners.iter().filter(|owner| **owner == Some(member)).count()
    }

    fn circle(&self, color: bool) -> Vec<String> {
        let (rows, columns) = (circle_height(), circle_width());
        let mut cells = vec![vec![None; columns]; rows];
        if !self.owners.is_empty() {
            // More steps than cells, so that the line has no gaps; the first owner to reach a cell keeps it.
            let steps = 8 * (rows + columns);
            for step in 0..steps {
                let turn = ratio(step, steps);
                let (sine, cosine) = (turn * TAU).sin_cos();
                let row = to_cell(HALF_ROWS - cosine * HALF_ROWS);
                let column = to_cell(HALF_COLUMNS + sine * HALF_COLUMNS);
                let owner = self.owners[step * self.owners.len() / steps];
                cells[row][column].get_or_insert(owner);
            }
        }
        let mut lines: Vec<String> = cells
            .iter()
            .map(|row| {
                row.iter()
                    .map(|cell| cell.map_or_else(|| " ".to_owned(), |owner| mark(owner, color)))
                    .collect()
            })
            .collect();
        let middle = [self.title.clone(), quantity::counted(self.owners.len() as u64, "partition")];
        for (offset, text) in middle.iter().enumerate() {
            let row = rows / 2 - 1 + offset;
            lines[row] = self.with_text(&cells[row], text, color);
        }
        lines
    }

    /// A row of the circle with `text` centred inside it.
    fn with_text(&self, cells: &[Option<Option<usize>>], text: &str, color: bool) -> String {
        let room = cells.len().saturating_sub(6);
        let text: String = text.chars().take(room).collect();
        let start = (cells.len() - text.chars().count()) / 2;
        let mut letters = text.chars();
        cells
            .iter()
            .enumerate()
            .map(|(column, cell)| match (cell, column >= start) {
                (Some(owner), _) => mark(*owner, color),
                (None, true) => letters.next().unwrap_or(' ').to_string(),
                (None, false) => " ".to_owned(),
            })
            .collect()
    }

    fn legend(&self, color: bool) -> Vec<String> {
        let widest =
            self.members.iter().map(|member| member.name.chars().count()).max().unwrap_or(0);
        let mut lines = Vec::new();
        for (index, member) in self.members.iter().enumerate() {
            let partitions = self.partitions(index);
            let share = ratio(partitions, self.owners.len());
            let cells = to_cell(share * ratio(BAR_CELLS, 1)).min(BAR_CELLS);
            let bar = paint(&"█".repeat(cells), index, color);
            let rest = "░".repeat(BAR_CELLS - cells);
            let name = format!("{:widest$}", member.name);
            lines.push(format!(
                "{} {name} {}  {bar}{rest} {:4.1}%",
                mark(Some(index), color),
                member.id,
                share * 100.0
            ));
            let held = match member.shards {
                Some(shards) => format!(
                    "{}, {}",
                    quantity::counted(shards, "shard"),
                    quantity::bytes(member.bytes)
                ),
                None => "does not answer".to_owned(),
            };
            lines.push(format!(
                "  {:widest$} primary of {}, backup of {}; {held}",
                "",
                quantity::count(partitions as u64),
                quantity::count(member.backups as u64),
            ));
        }
        lines
    }
}

fn circle_height() -> usize {
    to_cell(HALF_ROWS * 2.0) + 1
}

fn circle_width() -> usize {
    to_cell(HALF_COLUMNS * 2.0) + 1
}

/// The letter of a node: A to Z, then from the start again; a dot for nobody.
fn mark(member: Option<usize>, color: bool) -> String {
    let Some(member) = member else { return "·".to_owned() };
    let letter = (b'A'..=b'Z').cycle().nth(member % 26).map_or('?', char::from);
    paint(&letter.to_string(), member, color)
}

fn paint(text: &str, member: usize, color: bool) -> String {
    if !color || text.is_empty() {
        return text.to_owned();
    }
    format!("\x1b[{}m{text}\x1b[0m", COLORS[member % COLORS.len()])
}

#[expect(clippy::cast_precision_loss, reason = "counts of cells and partitions are far below 2^52")]
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positions inside the picture are small and not negative"
)]
fn to_cell(position: f64) -> usize {
    position.round().max(0.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(owners: &[usize], members: usize) -> Ring {
        let members = (0..members)
            .map(|index| Member {
                name: format!("n{}", index + 1),
                id: "0123abcd".to_owned(),
                backups: 2,
                shards: Some(10),
                bytes: 4096,
            })
            .collect();
        Ring {
            title: "dev".to_owned(),
            owners: owners.iter().copied().map(Some).collect(),
            members,
        }
    }

    #[test]
    fn what_nobody_holds_is_nobodys_share() {
        let mut ring = ring(&[0, 0, 1, 1, 2, 0, 1, 0], 4);
        assert_eq!((0..4).map(|member| ring.partitions(member)).collect::<Vec<_>>(), [4, 3, 1, 0]);
        ring.owners = vec![None; 8];
        ring.members[3].shards = None;
        let picture = ring.draw(false);
        assert_eq!(ring.partitions(0), 0);
        assert!(picture.contains('·') && !picture.contains("100.0%"), "{picture}");
        assert_eq!(picture.matches("does not answer").count(), 1, "{picture}");
    }

    #[test]
    fn one_node_is_the_whole_circle() {
        let ring = ring(&[0; 16], 1);
        let picture = ring.draw(false);
        assert!(picture.contains("100.0%"), "{picture}");
        assert!(picture.contains("primary of 16, backup of 2; 10 shards, 4.0 KiB"), "{picture}");
        assert!(!ring.circle(false).concat().contains('B'), "{picture}");
    }

    #[test]
    fn the_picture_of_a_small_ring_is_this() {
        let owners: Vec<usize> = (0..12).map(|partition| partition / 4).collect();
        let picture = ring(&owners, 3).draw(false);
        assert_eq!(picture, include_str!("picture/small_ring.txt").trim_end_matches('\n'));
        assert!(picture.lines().all(|line| line.chars().count() <= 100));
    }

    #[test]
    fn color_changes_nothing_but_the_color() {
        let ring = ring(&[0, 1, 2, 0, 1, 2], 3);
        let mut plain = String::new();
        let mut escaped = false;
        for letter in ring.draw(true).chars() {
            match letter {
                '\x1b' => escaped = true,
                'm' if escaped => escaped = false,
                letter if !escaped => plain.push(letter),
                _ => {}
            }
        }
        let trimmed: Vec<_> = plain.lines().map(str::trim_end).collect();
        assert_eq!(trimmed.join("\n"), ring.draw(false));
    }
}
