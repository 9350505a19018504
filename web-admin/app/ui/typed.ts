/** What somebody types behind a mark, such as `/` or `@`, and what they chose put in its place; pure. */

export type Mark = '/' | '@'

export interface Typed {
  /** Where the mark stands. */
  readonly from: number
  readonly to: number
  readonly query: string
}

/** A slash begins something where a word may begin; an at sign anywhere but inside of an address. */
const BEFORE: Record<Mark, RegExp> = { '/': /(?:^|\s)$/, '@': /(?:^|[^\w.-])$/ }
/** Longer than any name or code; whoever types on means no list. */
const MAX_QUERY = 40

export function typedAt(text: string, caret: number, mark: Mark): Typed | null {
  const from = text.lastIndexOf(mark, caret - 1)
  if (from < 0 || caret <= from) return null
  const query = text.slice(from + 1, caret)
  if (query.length > MAX_QUERY || /\s/.test(query) || !BEFORE[mark].test(text.slice(0, from))) return null
  return { from, to: caret, query }
}

/** The text with the choice in the place of what was typed, and where the caret goes. */
export function chosen(text: string, { from, to }: { from: number; to: number }, words: string): { text: string; caret: number } {
  return { text: text.slice(0, from) + words + text.slice(to), caret: from + words.length }
}
