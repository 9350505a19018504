import { describe, expect, it, vi } from 'vitest'
import { ApiError } from '../api/problem'
import { FleetLink } from './fleetLink'

const TURNS = 20

async function settle(): Promise<void> {
  for (let turn = 0; turn < TURNS; turn += 1) await Promise.resolve()
}

/** A server whose connections end when the test says so. */
function scene() {
  const connections: { say: () => void; end: (failure?: Error) => void; signal: AbortSignal }[] = []
  const pauses: number[] = []
  let goOn: (() => void) | undefined
  const link = new FleetLink({
    random: () => 0,
    pause: (ms) =>
      new Promise((resolve) => {
        pauses.push(ms)
        goOn = resolve
      }),
    lines: async function* (signal) {
      let wake: (() => void) | undefined
      let isOver = false
      let failure: Error | undefined
      let said = 0
      connections.push({
        signal,
        say: () => {
          said += 1
          wake?.()
        },
        end: (why) => {
          isOver = true
          failure = why
          wake?.()
        },
      })
      for (;;) {
        while (said > 0) {
          said -= 1
          yield 'changed'
        }
        if (failure) throw failure
        if (isOver) return
        await new Promise<void>((resolve) => (wake = resolve))
      }
    },
  })
  return { link, connections, pauses, retry: () => goOn?.() }
}

describe('the link to the fleet', () => {
  it('is one for all who listen, and ends with the last', async () => {
    const { link, connections } = scene()
    const [one, other] = [vi.fn(), vi.fn()]
    const leave = [link.listen(one), link.listen(other)]
    await settle()
    expect(connections).toHaveLength(1)
    connections[0]?.say()
    await settle()
    expect([one.mock.calls.length, other.mock.calls.length]).toEqual([1, 1])
    leave[0]?.()
    expect(connections[0]?.signal.aborted).toBe(false)
    leave[1]?.()
    expect(connections[0]?.signal.aborted).toBe(true)
  })

  it('comes back after an end and after a cut, and waits longer each time', async () => {
    const { link, connections, pauses, retry } = scene()
    link.listen(vi.fn())
    await settle()
    connections[0]?.end()
    await settle()
    retry()
    await settle()
    connections[1]?.end(new ApiError(0, 'unreachable', ''))
    await settle()
    expect(pauses).toHaveLength(2)
    retry()
    await settle()
    expect(connections).toHaveLength(3)
  })

  it('asks no more once it is refused, and again for who comes then', async () => {
    const { link, connections, pauses } = scene()
    const leave = link.listen(vi.fn())
    await settle()
    connections[0]?.end(new ApiError(403, 'forbidden', ''))
    await settle()
    expect(pauses).toEqual([])
    leave()
    link.listen(vi.fn())
    await settle()
    expect(connections).toHaveLength(2)
  })
})
