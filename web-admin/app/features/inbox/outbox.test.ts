import { beforeEach, describe, expect, it, vi } from 'vitest'
import { ApiError, unreachable } from '../../api/problem'
import type { Message } from '../../api/types'
import { message } from './conversation.fixture'
import { isStuck, Outbox } from './outbox'
import type { Reply, Send } from './outbox'
import type { Unsent } from './unsent'

describe('Outbox', () => {
  const send = vi.fn<Send>()
  let accepted: Message[]
  let outbox: Outbox
  let kept: Map<string, Reply>
  let keys: number
  const unsent: Unsent = {
    read: () => [...kept.values()],
    keep: (reply) => kept.set(reply.key, reply),
    drop: (key) => kept.delete(key),
  }

  beforeEach(() => {
    send.mockReset()
    accepted = []
    kept = new Map()
    keys = 0
    outbox = start()
  })

  const start = () =>
    new Outbox({
      send,
      accepted: (taken) => accepted.push(taken),
      unsent,
      newKey: () => `k${(keys += 1)}`,
      now: () => '2026-11-22T12:00:00Z',
    })

  const states = () => outbox.replies.map(({ text, state }) => `${text} ${state}`)
  const sent = () => send.mock.calls.map(([{ text, key }]: [Reply]) => `${text} ${key}`)

  it('shows a reply at once and gives its place to the message', async () => {
    let take: (taken: Message) => void = () => undefined
    send.mockImplementation(() => new Promise((resolve) => (take = resolve)))
    const done = outbox.add('hello', [], 6)
    expect(states()).toEqual(['hello sending'])
    take(message(7))
    await done
    expect(states()).toEqual([])
    expect(accepted).toEqual([message(7)])
  })

  it('keeps the order: the second waits for the first', async () => {
    let take: (taken: Message) => void = () => undefined
    send.mockImplementationOnce(() => new Promise((resolve) => (take = resolve))).mockResolvedValue(message(2))
    const first = outbox.add('one', [], 6)
    await outbox.add('two', [], 6)
    expect(states()).toEqual(['one sending', 'two queued'])
    take(message(1))
    await first
    expect(sent()).toEqual(['one k1', 'two k2'])
    expect(states()).toEqual([])
  })

  it('sends what may have arrived again under the same key, before what follows', async () => {
    send.mockRejectedValueOnce(unreachable())
    await outbox.add('one', [], 6)
    expect(states()).toEqual(['one unknown'])
    send.mockRejectedValueOnce(new ApiError(503, 'unavailable', ''))
    await outbox.add('two', [], 6)
    expect(states()).toEqual(['one unknown', 'two queued'])
    send.mockResolvedValue(message(1))
    await outbox.flush()
    expect(sent()).toEqual(['one k1', 'one k1', 'one k1', 'two k2'])
    expect(states()).toEqual([])
  })

  it('never sends a refused reply again by itself', async () => {
    send.mockRejectedValueOnce(new ApiError(409, 'not_owner', 'Take it over.')).mockResolvedValue(message(2))
    await outbox.add('one', [], 6)
    await outbox.add('two', [], 6)
    await outbox.flush()
    expect(states()).toEqual(['one refused'])
    expect(sent()).toEqual(['one k1', 'two k2'])
    expect(outbox.takeBack('k1')?.text).toBe('one')
    expect(states()).toEqual([])
  })

  it('sends one that a colleague was faster than only when its author says so, and as a new request', async () => {
    send.mockRejectedValueOnce(new ApiError(409, 'stale_view', 'Li answered meanwhile.')).mockResolvedValue(message(7))
    await outbox.add('one', [], 6)
    await outbox.flush()
    expect(states()).toEqual(['one refused'])
    await outbox.sendAnyway('k1')
    expect(send.mock.calls.map(([{ key, seen }]) => [key, seen])).toEqual([['k1', 6], ['k2', null]])
    expect(states()).toEqual([])
  })

  it('sends nothing anyway that was refused for another reason', async () => {
    send.mockRejectedValueOnce(new ApiError(409, 'not_owner', 'Take it over.'))
    await outbox.add('one', [], 6)
    await outbox.sendAnyway('k1')
    expect(send).toHaveBeenCalledTimes(1)
  })

  it('goes on after a reload under the same key, and forgets what has arrived', async () => {
    send.mockRejectedValueOnce(unreachable())
    await outbox.add('one', [], 6)
    expect([...kept.keys()]).toEqual(['k1'])
    send.mockResolvedValue(message(7))
    outbox = start()
    expect(outbox.replies).toHaveLength(1)
    await outbox.flush()
    expect(sent()).toEqual(['one k1', 'one k1'])
    expect(kept.size).toBe(0)
  })

  it('asks about what is older, and holds up nothing', async () => {
    const old = { key: 'k0', text: 'old', attachments: [], at: '', seen: 2, error: null }
    kept.set('k0', { ...old, state: 'held' })
    send.mockResolvedValue(message(7))
    outbox = start()
    await outbox.add('new', [], 6)
    expect(states()).toEqual(['old held'])
    await outbox.release('k0')
    expect(sent()).toEqual(['new k1', 'old k0'])
    expect(kept.size).toBe(0)
  })

  it('never sends what could arrive twice, and gives it to its author or drops it', async () => {
    const old = { text: 'old', attachments: [], at: '', seen: 2, error: null, state: 'stranded' as const }
    kept.set('a', { ...old, key: 'a' })
    kept.set('b', { ...old, key: 'b' })
    outbox = start()
    await outbox.release('a')
    expect(send).not.toHaveBeenCalled()
    expect(outbox.takeBack('a')?.text).toBe('old')
    outbox.discard('b')
    expect([outbox.replies.length, kept.size]).toEqual([0, 0])
  })

  it('keeps what was refused with its reason', async () => {
    send.mockRejectedValueOnce(new ApiError(409, 'stale_view', 'Li answered meanwhile.')).mockResolvedValue(message(7))
    await outbox.add('one', [], 6)
    expect(kept.get('k1')).toMatchObject({ state: 'refused', error: { code: 'stale_view' } })
    outbox = start()
    await outbox.sendAnyway('k1')
    expect(sent()).toEqual(['one k1', 'one k2'])
    expect(kept.size).toBe(0)
  })

  it('says which replies are stuck, not those on their way', async () => {
    send.mockImplementation(() => new Promise(() => undefined))
    void outbox.add('one', [], 6)
    void outbox.add('two', [], 6)
    expect(outbox.replies.map(isStuck)).toEqual([false, false])
    send.mockReset().mockRejectedValueOnce(new ApiError(422, 'too_long', 'Too long.')).mockRejectedValue(unreachable())
    outbox = start()
    await outbox.flush()
    expect(outbox.replies.map((reply) => [reply.state, isStuck(reply)])).toEqual([
      ['refused', true],
      ['unknown', true],
    ])
  })

  it('does not drop what is being sent when another tab saw it arrive', async () => {
    let take: (taken: Message) => void = () => undefined
    send.mockImplementation(() => new Promise((resolve) => (take = resolve)))
    const done = outbox.add('one', [], 6)
    outbox.discard('k1')
    expect(states()).toEqual(['one sending'])
    take(message(7))
    await done
    expect(states()).toEqual([])
  })
})
