import { describe, expect, it } from 'vitest'
import { ApiError } from '../../../api/problem'
import { follow, piecesOf, unseen } from './follow'
import type { Following, Piece } from './follow'

const encoder = new TextEncoder()

function streamOf(...chunks: string[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(encoder.encode(chunk))
      controller.close()
    },
  })
}

async function all(stream: ReadableStream<Uint8Array>): Promise<Piece[]> {
  const pieces: Piece[] = []
  for await (const piece of piecesOf(stream)) pieces.push(piece)
  return pieces
}

describe('piecesOf', () => {
  it('joins lines that were cut anywhere', async () => {
    const pieces = await all(streamOf('"on', 'e"\n"tw', 'o"\n\n'))
    expect(pieces.flatMap(({ lines }) => lines)).toEqual(['one', 'two'])
    expect(pieces.at(-1)?.isQuiet).toBe(true)
    expect(pieces[0]?.isQuiet).toBe(false)
  })

  it('knows an empty line of the log from silence', async () => {
    expect(await all(streamOf('""\n'))).toEqual([{ lines: [''], isQuiet: false }])
  })
})

describe('unseen', () => {
  it('goes on behind what is known', () => {
    expect(unseen(['b', 'c'], ['a', 'b', 'c', 'd', 'e'])).toEqual(['d', 'e'])
    expect(unseen(['b', 'c'], ['b', 'c'])).toEqual([])
  })

  it('takes the last of places that are alike', () => {
    expect(unseen(['a', 'a'], ['a', 'a', 'a', 'b'])).toEqual(['b'])
  })

  it('begins anew with another log', () => {
    expect(unseen(['x', 'y'], ['a', 'b'])).toEqual(['a', 'b'])
    expect(unseen([], ['a'])).toEqual(['a'])
  })
})

function scene(answers: (() => ReadableStream<Uint8Array>)[]) {
  const ended = new AbortController()
  const taken: string[] = []
  const states: string[] = []
  const pauses: number[] = []
  const following: Following = {
    open: () => {
      const next = answers.shift()
      if (!next) {
        ended.abort()
        return Promise.resolve(streamOf())
      }
      return Promise.resolve().then(next)
    },
    wait: (ms) => {
      pauses.push(ms)
      return Promise.resolve()
    },
    random: () => 1,
    newest: (most) => taken.slice(-most),
    take: (lines) => taken.push(...lines),
    became: (state) => states.push(state),
  }
  return { run: () => follow(following, ended.signal), taken, states, pauses }
}

describe('follow', () => {
  it('goes on where it stopped, with nothing lost and nothing twice', async () => {
    const { run, taken, states } = scene([
      () => streamOf('"a"\n"b"\n', '"c"\n'),
      () => streamOf('"b"\n', '"c"\n"d"\n\n', '"e"\n'),
    ])
    await run()
    expect(taken).toEqual(['a', 'b', 'c', 'd', 'e'])
    expect(states[0]).toBe('connecting')
    expect(states).toContain('live')
  })

  it('waits longer each time that nothing new comes, and not after news', async () => {
    const lost = () => {
      throw new TypeError('cut')
    }
    const { run, pauses } = scene([lost, lost, () => streamOf('"a"\n\n'), lost])
    await run()
    expect(pauses.slice(0, 4)).toEqual([1_000, 2_000, 1_000, 2_000])
  })

  it('hands on what the server refuses', async () => {
    const { run } = scene([
      () => {
        throw new ApiError(403, 'forbidden', '')
      },
    ])
    await expect(run()).rejects.toThrow('forbidden')
  })
})
