//! Huffman-coded strings (RFC 7541, section 5.2), four bits at a step.

use super::codes::CODES;

/// One step of the machine: from a node, over four bits, to a node, with at most one symbol on
/// the way (the shortest code has five bits).
#[derive(Clone, Copy)]
struct Step {
    next: u8,
    symbol: u8,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Walk,
    Emit,
    /// The path leads to EOS, which must not occur.
    Forbidden,
}

/// The code as a tree has 257 leaves, so 256 inner nodes.
const NODES: usize = 256;

/// A leaf in [`TREE`] is its symbol plus this.
const LEAF: u16 = 0x8000;

/// The only symbol that no byte stands for.
const EOS: u16 = 256;

const TREE: [[u16; 2]; NODES] = tree();
static STEPS: [[Step; 16]; NODES] = steps();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn tree() -> [[u16; 2]; NODES] {
    let mut tree = [[0_u16; 2]; NODES];
    let mut used = 1_u16;
    let mut symbol = 0_u16;
    while (symbol as usize) < CODES.len() {
        let (code, length) = CODES[symbol as usize];
        let mut node = 0_usize;
        let mut bit = length;
        while bit > 1 {
            bit -= 1;
            let side = ((code >> bit) & 1) as usize;
            if tree[node][side] == 0 {
                tree[node][side] = used;
                used += 1;
            }
            node = tree[node][side] as usize;
        }
        tree[node][(code & 1) as usize] = LEAF + symbol;
        symbol += 1;
    }
    tree
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
#[expect(clippy::cast_possible_truncation, reason = "256 nodes and 256 symbols")]
const fn steps() -> [[Step; 16]; NODES] {
    let mut steps = [[Step { next: 0, symbol: 0, kind: Kind::Walk }; 16]; NODES];
    let mut start = 0;
    while start < NODES {
        let mut nibble = 0;
        while nibble < 16 {
            let mut step = Step { next: 0, symbol: 0, kind: Kind::Walk };
            let mut node = start as u16;
            let mut bit = 4;
            while bit > 0 {
                bit -= 1;
                node = TREE[node as usize][(nibble >> bit) & 1];
                if node >= LEAF {
                    let symbol = node - LEAF;
                    if symbol == EOS {
                        step.kind = Kind::Forbidden;
                    } else {
                        step.kind = Kind::Emit;
                        step.symbol = symbol as u8;
                    }
                    node = 0;
                }
            }
            step.next = node as u8;
            steps[start][nibble] = step;
            nibble += 1;
        }
        start += 1;
    }
    steps
}

/// Appends the decoded `coded` to `out`; false where it holds EOS or its padding is not up to
/// seven one bits.
pub(crate) fn decode(coded: &[u8], out: &mut Vec<u8>) -> bool {
    out.reserve(coded.len().saturating_mul(8) / 5);
    let mut node = 0_u8;
    for byte in coded {
        for nibble in [byte >> 4, byte & 0xf] {
            let row = STEPS.get(usize::from(node));
            let Some(step) = row.and_then(|row| row.get(usize::from(nibble))) else {
                return false;
            };
            match step.kind {
                Kind::Walk => {}
                Kind::Emit => out.push(step.symbol),
                Kind::Forbidden => return false,
            }
            node = step.next;
        }
    }
    is_padding(node)
}

/// Whether `node` lies on the path of ones, at most seven deep.
fn is_padding(node: u8) -> bool {
    let mut at = 0_u16;
    for _ in 0..=7 {
        if at == u16::from(node) {
            return true;
        }
        let Some([_, one]) = TREE.get(usize::from(at)) else { return false };
        at = *one;
    }
    false
}
