/** The part of a message in which something was found, the way the server compares; pure. */

export interface Excerpt {
  readonly before: string
  readonly match: string
  readonly after: string
}

/** Characters that are shown before and after what was found. */
const BEFORE = 40
const AFTER = 120

/** Fields of segments that the server looks through. */
const FIELDS = ['title', 'text', 'transcript', 'name', 'address', 'desc'] as const

export function wordsOf(segments: readonly object[]): string {
  return segments
    .flatMap((segment) => FIELDS.map((field) => (segment as Partial<Record<string, unknown>>)[field]))
    .filter((words) => typeof words === 'string' && words !== '')
    .join(' ')
}

/** Case, white space and full-width forms make no difference. Where nothing fits, the beginning is shown. */
export function excerptOf(words: string, sought: string): Excerpt {
  const { form, places } = formOf(words)
  const wanted = formOf(sought).form.trim()
  const at = wanted === '' ? -1 : form.indexOf(wanted)
  if (at < 0) return { before: clipped(words.slice(0, BEFORE + AFTER), words, 0), match: '', after: '' }
  const from = places[at] ?? 0
  const to = places[at + wanted.length] ?? words.length
  const start = boundary(words, Math.max(0, from - BEFORE))
  const end = boundary(words, Math.min(words.length, to + AFTER))
  return {
    before: (start > 0 ? '…' : '') + words.slice(start, from),
    match: words.slice(from, to),
    after: words.slice(to, end) + (end < words.length ? '…' : ''),
  }
}

/** A text as it is compared, and for each of its characters where it begins in the original. */
function formOf(words: string): { form: string; places: number[] } {
  let form = ''
  const places: number[] = []
  let place = 0
  for (const character of words) {
    const plain = /\s/.test(character) ? ' ' : character.normalize('NFKC').toLowerCase()
    const isRepeated = plain === ' ' && form.endsWith(' ')
    for (let index = 0; !isRepeated && index < plain.length; index += 1) places.push(place)
    if (!isRepeated) form += plain
    place += character.length
  }
  return { form, places }
}

/** Never between the halves of a character. */
function boundary(words: string, at: number): number {
  const code = words.charCodeAt(at)
  return code >= 0xdc00 && code <= 0xdfff ? at - 1 : at
}

function clipped(shown: string, whole: string, from: number): string {
  return from + shown.length < whole.length ? `${shown}…` : shown
}
