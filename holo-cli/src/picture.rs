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
    /// Index into `members` of the first owner of each partition, in ring order.
    pub(crate) owners: Vec<usize>,
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
    /// Shards that it holds.
    pub(crate) shards: u64,
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

    /// Partitions whose first owner is `member`.
    fn partitions(&self, member: usize) -> usize {
        self.owners.iter().filter(|owner| **owner == member).count()
    }

    /// Runs of neighbouring partitions with one first owner, around the ring.
    fn arcs(&self, member: usize) -> usize {
        let before = self.owners.iter().cycle().skip(self.owners.len().saturating_sub(1));
        let starts = self
            .owners
            .iter()
            .zip(before)
            .filter(|(owner, before)| **owner == member && **before != member)
            .count();
        if starts == 0 && self.partitions(member) > 0 { 1 } else { starts }
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
        let middle = [self.title.clone(), format!("{} partitions", self.owners.len())];
        for (offset, text) in middle.iter().enumerate() {
            let row = rows / 2 - 1 + offset;
            lines[row] = self.with_text(&cells[row], text, color);
        }
        lines
    }

    /// A row of the circle with `text` centred inside it.
    fn with_text(&self, cells: &[Option<usize>], text: &str, color: bool) -> String {
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
                mark(index, color),
                member.id,
                share * 100.0
            ));
            lines.push(format!(
                "  {:widest$} {} in {}, {}, {}",
                "",
                quantity::counted(partitions as u64, "partition"),
                quantity::counted(self.arcs(index) as u64, "arc"),
                quantity::counted(member.shards, "shard"),
                quantity::bytes(member.bytes),
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

/// The letter of a node: A to Z, then from the start again.
fn mark(member: usize, color: bool) -> String {
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
                shards: 10,
                bytes: 4096,
            })
            .collect();
        Ring { title: "dev".to_owned(), owners: owners.to_vec(), members }
    }

    #[test]
    fn arcs_and_shares_are_counted_around_the_end_of_the_ring() {
        let ring = ring(&[0, 0, 1, 1, 2, 0, 1, 0], 4);
        assert_eq!((0..4).map(|member| ring.partitions(member)).collect::<Vec<_>>(), [4, 3, 1, 0]);
        assert_eq!((0..4).map(|member| ring.arcs(member)).collect::<Vec<_>>(), [2, 2, 1, 0]);
    }

    #[test]
    fn one_node_is_one_arc_and_the_whole_circle() {
        let ring = ring(&[0; 16], 1);
        assert_eq!(ring.arcs(0), 1);
        let picture = ring.draw(false);
        assert!(picture.contains("100.0%"), "{picture}");
        assert!(picture.contains("16 partitions in 1 arc, 10 shards"), "{picture}");
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
