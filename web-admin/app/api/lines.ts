/** Whole lines out of a body that comes in pieces. */

import { unreachable } from './problem'

/** A longer line is nobody's; what is left of it is not kept. */
const MAX_LINE = 64 * 1_024

export async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader()
  const decoder = new TextDecoder()
  let rest = ''
  try {
    for (;;) {
      const { done, value } = await piece(reader)
      if (done) return
      const parts = (rest + decoder.decode(value, { stream: true })).split('\n')
      rest = (parts.pop() ?? '').slice(0, MAX_LINE)
      yield* parts
    }
  } finally {
    await reader.cancel().catch(() => undefined)
  }
}

/** A connection that is cut looks like one that never was. */
async function piece(reader: ReadableStreamDefaultReader<Uint8Array>) {
  try {
    return await reader.read()
  } catch {
    throw unreachable()
  }
}
