import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { gather } from './gather'

/** Lets whoever waits for a promise go on. */
const settle = () => vi.advanceTimersByTimeAsync(0)

describe('gather', () => {
  let runs: (() => void)[]
  const run = () => new Promise<void>((resolve) => runs.push(resolve))

  beforeEach(() => {
    vi.useFakeTimers()
    runs = []
  })

  afterEach(() => {
    vi.useRealTimers()
  })

  it('answers many calls by one run', async () => {
    const gathering = gather(run, 60)
    gathering.call()
    gathering.call()
    await vi.advanceTimersByTimeAsync(60)
    expect(runs).toHaveLength(1)
    runs[0]?.()
    await vi.advanceTimersByTimeAsync(1_000)
    expect(runs).toHaveLength(1)
  })

  it('lets the first call wait for nobody, and the next for the rest of the time', async () => {
    const gathering = gather(run, 60)
    gathering.call()
    await settle()
    expect(runs).toHaveLength(1)
    runs[0]?.()
    await vi.advanceTimersByTimeAsync(20)
    gathering.call()
    await vi.advanceTimersByTimeAsync(39)
    expect(runs).toHaveLength(1)
    await vi.advanceTimersByTimeAsync(1)
    expect(runs).toHaveLength(2)
  })

  it('runs once more for what came meanwhile, and never twice at a time', async () => {
    const gathering = gather(run, 60)
    gathering.call()
    await vi.advanceTimersByTimeAsync(60)
    for (let call = 0; call < 5; call += 1) gathering.call()
    await vi.advanceTimersByTimeAsync(1_000)
    expect(runs).toHaveLength(1)
    runs[0]?.()
    await settle()
    await vi.advanceTimersByTimeAsync(60)
    expect(runs).toHaveLength(2)
  })

  it('starts nothing after its end', async () => {
    const gathering = gather(run, 60)
    gathering.call()
    gathering.end()
    gathering.call()
    await vi.advanceTimersByTimeAsync(1_000)
    expect(runs).toEqual([])
  })
})
