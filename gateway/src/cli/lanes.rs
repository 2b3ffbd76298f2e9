//! Lines of a file worked on by all cores and taken in their order: a reader deals out pieces of whole
//! lines to the workers in turn, and what they make of them is asked for in the same turn.

use std::io::{self, Read};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::output::Failure;

/// Bytes of whole lines that are worked on at once; a line is no longer. The gateway's own are below
/// 64 KiB. A worker has one piece in hand and one before it: some megabytes a core.
const PIECE_BYTES: usize = 1 << 20;

/// Pieces, and results, that wait between two threads.
const WAITING_MAX: usize = 1;

/// Makes something of each piece of a file on all cores, and takes it in the file's order. `name` is the
/// file's, for messages.
///
/// # Errors
/// What `take` says, or why the file could not be read to its end.
pub(super) fn work<T: Send>(
    name: &str,
    reader: impl Read + Send,
    make: impl Fn(&[u8]) -> T + Sync,
    mut take: impl FnMut(T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let make = &make;
    thread::scope(|scope| {
        let (mut dealt, mut made) = (Vec::new(), Vec::new());
        // Pieces that were worked on are read into again: fresh memory costs more than a copy.
        let (spare, spares) = sync_channel(workers * 2);
        for _ in 0..workers {
            let (deal, pieces) = sync_channel(WAITING_MAX);
            let (give, results) = sync_channel(WAITING_MAX);
            let spare = spare.clone();
            scope.spawn(move || work_on(&pieces, &give, &spare, make));
            dealt.push(deal);
            made.push(results);
        }
        let reading = scope.spawn(move || deal_out(reader, &dealt, &spares));
        for results in made.iter().cycle() {
            // The first that has nothing more is the one whose turn never came.
            let Ok(result) = results.recv() else { break };
            take(result)?;
        }
        drop(made);
        let read = reading.join().unwrap_or_else(|_| Err(io::Error::other("the reader panicked")));
        read.map_err(Failure::doing(&format!("reading {name}")))
    })
}

/// A panic of one worker ends the scope with it: no line is passed over in silence.
fn work_on<T>(
    pieces: &Receiver<Vec<u8>>,
    give: &SyncSender<T>,
    spare: &SyncSender<Vec<u8>>,
    make: &impl Fn(&[u8]) -> T,
) {
    for piece in pieces {
        if give.send(make(&piece)).is_err() {
            return;
        }
        // One too many is let go.
        drop(spare.try_send(piece));
    }
}

fn deal_out(
    reader: impl Read,
    workers: &[SyncSender<Vec<u8>>],
    spares: &Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut pieces = Pieces { reader, rest: Vec::new() };
    for worker in workers.iter().cycle() {
        let Some(piece) = pieces.next(spares.try_recv().unwrap_or_default())? else { break };
        if worker.send(piece).is_err() {
            break;
        }
    }
    Ok(())
}

/// A file in pieces of whole lines. A line that is longer than a piece is cut.
struct Pieces<R> {
    reader: R,
    /// Of the last read, what follows its last line.
    rest: Vec<u8>,
}

impl<R: Read> Pieces<R> {
    /// Reads the next piece into this memory.
    fn next(&mut self, mut piece: Vec<u8>) -> io::Result<Option<Vec<u8>>> {
        piece.clear();
        piece.reserve_exact(PIECE_BYTES);
        piece.append(&mut self.rest);
        let room = PIECE_BYTES - piece.len();
        let read = (&mut self.reader).take(room as u64).read_to_end(&mut piece)?;
        if read == room
            && let Some(end) = memchr::memrchr(b'\n', &piece)
        {
            self.rest = piece.split_off(end + 1);
        }
        Ok((!piece.is_empty()).then_some(piece))
    }
}

/// The lines of a piece, without their ends.
pub(super) fn lines(piece: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = piece;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let (line, after) = rest.split_at_checked(end)?;
        rest = after.get(1..).unwrap_or_default();
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Gives a few bytes at a time, as a pipe may.
    struct Slow<'b>(&'b [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let some = buffer.len().min(70_001).min(self.0.len());
            let (now, later) = self.0.split_at(some);
            buffer.get_mut(..some).unwrap().copy_from_slice(now);
            self.0 = later;
            Ok(some)
        }
    }

    fn taken(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let owned = |piece: &[u8]| lines(piece).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let take = |mut made: Vec<Vec<u8>>| {
            all.append(&mut made);
            Ok(())
        };
        work("lines", Slow(bytes), owned, take).ok().unwrap();
        all
    }

    #[test]
    fn every_line_is_taken_once_and_in_order() {
        let lines: Vec<String> =
            (0..9_000).map(|n| format!("{n} {}", "x".repeat(n * 7 % 1_500))).collect();
        let text = lines.join("\n");
        for end in ["", "\n"] {
            let found = taken(format!("{text}{end}").as_bytes());
            assert_eq!(found.len(), lines.len());
            assert!(found.iter().zip(&lines).all(|(found, line)| found == line.as_bytes()));
        }
        assert!(taken(b"").is_empty());
        assert_eq!(taken(b"\n\na"), [b"".to_vec(), b"".to_vec(), b"a".to_vec()]);
    }

    #[test]
    fn a_line_longer_than_a_piece_is_cut_and_what_follows_is_whole() {
        let long = "x".repeat(PIECE_BYTES * 2 + 10);
        let found = taken(format!("a\n{long}\nb\n").as_bytes());
        assert_eq!(found.first().unwrap(), b"a");
        assert_eq!(found.last().unwrap(), b"b");
        let longs: Vec<_> = found.iter().filter(|line| line.starts_with(b"x")).collect();
        assert_eq!(longs.iter().map(|line| line.len()).sum::<usize>(), long.len());
        assert!(longs.len() > 1);
    }

    #[test]
    fn what_taking_says_ends_it() {
        let text = "line\n".repeat(3_000_000);
        let mut left = 2;
        let ended = work("lines", text.as_bytes(), <[u8]>::len, |_| {
            left -= 1;
            if left == 0 { Err(Failure::Found) } else { Ok(()) }
        });
        assert!(matches!(ended, Err(Failure::Found)));
        assert_eq!(left, 0);
    }
}
