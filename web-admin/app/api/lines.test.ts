import { describe, expect, it } from 'vitest'
import { linesOf } from './lines'

function body(...pieces: (string | Uint8Array)[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const piece of pieces) controller.enqueue(typeof piece === 'string' ? new TextEncoder().encode(piece) : piece)
      controller.close()
    },
  })
}

async function all(stream: ReadableStream<Uint8Array>): Promise<string[]> {
  const lines = []
  for await (const line of linesOf(stream)) lines.push(line)
  return lines
}

describe('lines of a body', () => {
  it('are whole, however they come', async () => {
    expect(await all(body('on', 'e\ntwo\nthr', 'ee\n'))).toEqual(['one', 'two', 'three'])
  })

  it('keep characters that are cut in the middle', async () => {
    const bytes = new TextEncoder().encode('看\n')
    expect(await all(body(bytes.slice(0, 1), bytes.slice(1)))).toEqual(['看'])
  })

  it('leave out what never ended', async () => {
    expect(await all(body('one\ntw'))).toEqual(['one'])
  })

  it('fail as unreachable when the connection is cut', async () => {
    const cut = new ReadableStream<Uint8Array>({
      pull() {
        throw new TypeError('network error')
      },
    })
    await expect(all(cut)).rejects.toMatchObject({ code: 'unreachable' })
  })
})
