/** Follows a log: reads it as it comes, and goes on where it stopped when the connection ends. */

import { ApiError } from '../../../api/problem'
import { readLine } from './line'

/** What a piece of the answer had; `isQuiet`: there was nothing more then. */
export interface Piece {
  lines: string[]
  isQuiet: boolean
}

export type FollowState = 'connecting' | 'live' | 'lost'

export interface Following {
  open: (signal: AbortSignal) => Promise<ReadableStream<Uint8Array>>
  /** Resolves after so long, or when it is ended. */
  wait: (ms: number, signal: AbortSignal) => Promise<void>
  random: () => number
  /** The newest texts that are there already. */
  newest: (most: number) => string[]
  take: (lines: string[]) => void
  became: (state: FollowState) => void
}

/** Lines that the server gives again; one that goes on finds itself among them. */
export const TAIL = 1_000
/** So many lines in a row are taken for the same place of the log. */
const SAME = 8
/** The server says every 15 s that it is there. */
const SILENT_MS = 45_000
const FIRST_PAUSE_MS = 1_000
const LONGEST_PAUSE_MS = 30_000

/** Until it is ended; throws the server's refusal. */
export async function follow(following: Following, signal: AbortSignal): Promise<void> {
  for (let failures = 0, isFirst = true; !signal.aborted; failures += 1, isFirst = false) {
    following.became(isFirst ? 'connecting' : 'lost')
    const hadNews = await readOnce(following, isFirst, signal)
    if (hadNews) failures = 0
    following.became('lost')
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures)
    await following.wait(pause * (0.5 + following.random() / 2), signal)
  }
}

async function readOnce(following: Following, isFirst: boolean, signal: AbortSignal): Promise<boolean> {
  const connection = new AbortController()
  const end = () => {
    connection.abort()
  }
  signal.addEventListener('abort', end)
  let silence = setTimeout(end, SILENT_MS)
  let hadNews = false
  let held: string[] | null = isFirst ? null : []
  try {
    for await (const { lines, isQuiet } of piecesOf(await following.open(connection.signal))) {
      clearTimeout(silence)
      silence = setTimeout(end, SILENT_MS)
      following.became('live')
      held?.push(...lines)
      if (held && !isQuiet && held.length < TAIL) continue
      const fresh: string[] = held ? unseen(following.newest(SAME), held) : lines
      held = null
      if (fresh.length > 0) {
        following.take(fresh)
        hadNews = true
      }
    }
    // What came before the connection ended is all that there was.
    const rest = held ? unseen(following.newest(SAME), held) : []
    if (rest.length > 0) following.take(rest)
  } catch (failure) {
    if (failure instanceof ApiError && failure.isRefusal && failure.status !== 429) throw failure
  } finally {
    clearTimeout(silence)
    signal.removeEventListener('abort', end)
    connection.abort()
  }
  return hadNews
}

/** What of a log's end is behind the newest that is known; all of it where that is not among it. */
export function unseen(newest: readonly string[], lines: readonly string[]): string[] {
  if (newest.length === 0) return [...lines]
  const texts = lines.map((line) => readLine(line).text)
  for (let end = texts.length; end > 0; end -= 1) {
    const same = Math.min(newest.length, end)
    const isHere = newest.slice(-same).every((text, index) => text === texts[end - same + index])
    if (isHere) return lines.slice(end)
  }
  return [...lines]
}

/** The lines of a stream of JSON strings; an empty line says that there is nothing new. */
export async function* piecesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<Piece> {
  const reader = stream.getReader()
  const decoder = new TextDecoder()
  let rest = ''
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      const whole = (rest + decoder.decode(value, { stream: true })).split('\n')
      rest = whole.pop() ?? ''
      const lines = whole.filter((line) => line !== '').map((line) => String(JSON.parse(line)))
      yield { lines, isQuiet: whole.at(-1) === '' }
    }
  } finally {
    await reader.cancel().catch(() => undefined)
  }
}
