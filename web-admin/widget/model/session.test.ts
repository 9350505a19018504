import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Session } from './session'
import { FakeNetwork } from './socket.fixture'
import { conversationStorage } from './storage'
import type { Stored } from './pictures'
import type { ConversationStorage } from './storage'
import { memoryStorage } from './storage.fixture'

describe('Session', () => {
  let network: FakeNetwork
  let storage: ConversationStorage
  let session: Session
  let uploads: { url: string; end: (stored: Stored) => void }[]

  beforeEach(() => {
    vi.useFakeTimers({ now: 0 })
    network = new FakeNetwork()
    uploads = []
    storage = conversationStorage(memoryStorage(), 'token')
    session = start()
  })

  afterEach(() => {
    vi.useRealTimers()
  })

  function start(): Session {
    let count = 0
    const started = new Session({
      openSocket: network.open,
      storage,
      store: (url) => new Promise((end) => uploads.push({ url, end })),
      newId: () => `c${(count += 1)}`,
      random: () => 0,
      now: Date.now,
    })
    started.wake()
    return started
  }

  const first = { type: 'message', id: 'c1', text: '你好' }
  const answer = {
    type: 'message',
    id: 'm2',
    sender: { kind: 'bot', name: null },
    segments: [{ type: 'text', text: '9:00–18:00' }],
    at: '2026-01-01T00:00:00Z',
    client_id: null,
  }

  it('sends what was written before the connection, after the welcome', () => {
    session.compose('你好')
    network.last.welcome()
    expect(network.last.sent).toEqual([{ type: 'resume', visitor: null, last_id: null }, first])
  })

  it('sends how it was as stars, once, and remembers that over a reload', () => {
    network.last.welcome()
    const question = { type: 'question', id: 'q1', until: '1970-01-01T01:00:00Z' }
    network.last.receive(question)
    session.rate(4, '很快')
    expect(network.last.sent.at(-1)).toEqual({ type: 'message', id: 'c1', text: '★★★★☆\n很快' })
    session.rate(1, '')
    expect(network.last.sent).toHaveLength(2)
    session = start()
    network.last.welcome()
    network.last.receive(question)
    expect(session.conversation.value.question).toBeNull()
  })

  it('says nothing of it when it is too late', () => {
    network.last.welcome()
    network.last.receive({ type: 'question', id: 'q1', until: '1969-12-31T00:00:00Z' })
    session.rate(4, '')
    expect(network.last.sent).toHaveLength(1)
    expect(session.conversation.value.question).toBeNull()
  })

  it('resends unchanged over a new connection until it is acknowledged', () => {
    network.last.welcome()
    session.compose('你好')
    session.reconnect()
    network.last.welcome()
    expect(network.last.sent[1]).toEqual(first)
    network.last.receive({ type: 'ack', id: 'c1', message_id: 'm1' })
    session.reconnect()
    network.last.welcome()
    expect(network.last.sent).toHaveLength(1)
  })

  it('continues after a reload with the same visitor, position and unsent messages', () => {
    network.last.welcome([answer])
    session.compose('你好')
    session = start()
    expect(session.conversation.value.messages).toMatchObject([{ id: 'm2' }])
    network.last.welcome()
    expect(network.last.sent).toEqual([{ type: 'resume', visitor: 'secret', last_id: 'm2' }, first])
  })

  it('connects anew when the oldest message stays unconfirmed, whatever else is written', () => {
    network.last.welcome()
    session.compose('你好')
    vi.advanceTimersByTime(14_000)
    session.compose('在吗')
    vi.advanceTimersByTime(1_000)
    expect(network.sockets).toHaveLength(2)
    network.last.welcome()
    expect(network.last.sent.slice(1)).toMatchObject([{ id: 'c1' }, { id: 'c2' }])
  })

  it('is content once everything is confirmed', () => {
    network.last.welcome()
    session.compose('你好')
    network.last.receive({ type: 'ack', id: 'c1', message_id: 'm1' })
    vi.advanceTimersByTime(60_000)
    expect(network.sockets).toHaveLength(1)
  })

  it('repeats what was written too fast, in order, when the pause is over', () => {
    network.last.welcome()
    session.compose('你好')
    network.last.receive({ type: 'error', code: 'rate_limited', detail: '', id: 'c1', retry_after: 2 })
    session.compose('在吗')
    expect(network.last.sent).toHaveLength(2)
    vi.advanceTimersByTime(2_000)
    expect(network.last.sent.slice(2)).toMatchObject([{ id: 'c1' }, { id: 'c2' }])
    expect(session.conversation.value.outbox).toMatchObject([{ refusal: null }, { refusal: null }])
  })

  it('says that the tenant rests until it is back or the connection is new', () => {
    network.last.welcome()
    network.last.receive({ type: 'service', paused: true })
    expect(session.isPaused.value).toBe(true)
    network.last.receive({ type: 'service', paused: false })
    expect(session.isPaused.value).toBe(false)
    network.last.receive({ type: 'service', paused: true })
    session.reconnect()
    network.last.welcome()
    expect(session.isPaused.value).toBe(false)
  })

  describe('with a picture', () => {
    const file = new File(['pixels'], 'flower.png', { type: 'image/png' })
    const room = { type: 'upload', id: 'c1', media_id: 'p1', url: '/media/x' }

    async function end(stored: Stored): Promise<void> {
      uploads.at(-1)?.end(stored)
      await vi.advanceTimersByTimeAsync(0)
    }

    beforeEach(() => {
      network.last.welcome()
      session.compose('', file)
      session.compose('好看吗')
    })

    it('asks where it goes, stores it, and only then sends what was written behind it', async () => {
      expect(network.last.sent.slice(1)).toEqual([{ type: 'picture', id: 'c1', size: 6 }])
      network.last.receive(room)
      expect(uploads).toMatchObject([{ url: '/media/x' }])
      await end('stored')
      expect(network.last.sent.slice(2)).toEqual([
        { type: 'message', id: 'c1', text: '', picture: 'p1' },
        { type: 'message', id: 'c2', text: '好看吗' },
      ])
    })

    it('is patient with an upload, and asks again for one that failed', async () => {
      network.last.receive(room)
      await vi.advanceTimersByTimeAsync(60_000)
      expect(network.sockets).toHaveLength(1)
      await end('later')
      await vi.advanceTimersByTimeAsync(3_000)
      expect(network.last.sent.slice(2)).toEqual([{ type: 'picture', id: 'c1', size: 6 }])
    })

    it('lets the rest go when it is refused, and can be tried again', async () => {
      network.last.receive(room)
      await end({ code: 'storage_full', detail: 'No room.' })
      expect(network.last.sent.at(-1)).toMatchObject({ id: 'c2' })
      const [refused] = session.conversation.value.outbox
      if (!refused) throw new Error('the refused picture is gone')
      session.retry(refused)
      expect(network.last.sent.at(-1)).toEqual({ type: 'picture', id: 'c3', size: 6 })
    })
  })

  it('sends a refused message again under a new id', () => {
    network.last.welcome()
    session.compose('你好')
    network.last.receive({ type: 'error', code: 'refused', detail: 'Not taken.', id: 'c1' })
    const [refused] = session.conversation.value.outbox
    if (!refused) throw new Error('the refused message is gone')
    session.retry(refused)
    expect(network.last.sent.at(-1)).toEqual({ ...first, id: 'c2' })
    expect(session.conversation.value.outbox).toMatchObject([{ id: 'c2', refusal: null }])
  })
})
