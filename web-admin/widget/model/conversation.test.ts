import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { emptyConversation, MAX_OUTBOX_MESSAGES, ready, reduce, unsent } from './conversation'
import type { Conversation, ConversationEvent } from './conversation'
import type { Message, ServerFrame } from './protocol'
import { conversationStorage } from './storage'
import { memoryStorage } from './storage.fixture'

const heading = { title: null, greeting: null, accent: null }

function message(id: string, clientId: string | null = null): Message {
  const kind = clientId === null ? 'bot' : 'visitor'
  return { id, sender: { kind, name: null }, segments: [{ type: 'text', text: id, picture: null }], at: '', clientId }
}

function composed(id: string): ConversationEvent {
  return { type: 'composed', outgoing: { id, text: id, picture: null, at: id, refusal: null } }
}

function after(...events: (ConversationEvent | ServerFrame)[]): Conversation {
  return events.reduce<Conversation>(
    (state, event) =>
      reduce(
        state,
        isOurs(event) ? event : { type: 'frame', frame: event },
      ),
    emptyConversation,
  )
}

function isOurs(event: ConversationEvent | ServerFrame): event is ConversationEvent {
  return ['frame', 'composed', 'stored', 'refused', 'discarded', 'waved'].includes(event.type)
}

function withPicture(id: string): ConversationEvent {
  const picture = { name: 'flower.png', size: 7, mediaId: null }
  return { type: 'composed', outgoing: { id, text: '', picture, at: id, refusal: null } }
}

function ids(state: Conversation): string[] {
  return state.messages.map(({ id }) => id)
}

describe('ready', () => {
  it('lets nothing overtake a picture whose bytes are not stored', () => {
    const state = after(composed('c1'), withPicture('c2'), composed('c3'))
    expect(ready(state).messages).toMatchObject([{ id: 'c1' }])
    expect(ready(state).picture).toMatchObject({ id: 'c2' })
  })

  it('goes on when they are, and when the picture is refused or removed', () => {
    const before = [composed('c1'), withPicture('c2'), composed('c3')]
    const refusal = { code: 'http_413', detail: '' }
    const stored = after(...before, { type: 'stored', id: 'c2', mediaId: 'p1' })
    const refused = after(...before, { type: 'refused', id: 'c2', refusal })
    const removed = after(...before, { type: 'discarded', id: 'c2' })
    expect(ready(stored).messages).toMatchObject([{ id: 'c1' }, { id: 'c2' }, { id: 'c3' }])
    expect(ready(refused).messages).toMatchObject([{ id: 'c1' }, { id: 'c3' }])
    expect(ready(removed).messages).toMatchObject([{ id: 'c1' }, { id: 'c3' }])
  })
})

describe('reduce', () => {
  it('shows an acknowledged picture without words as a picture', () => {
    const state = after(
      withPicture('c1'),
      { type: 'stored', id: 'c1', mediaId: 'p1' },
      { type: 'ack', id: 'c1', messageId: 'm1' },
    )
    expect(state.messages[0]?.segments).toEqual([{ type: 'image', text: null, picture: 'p1' }])
  })

  it('shows an acknowledged message as provisional until its place is known', () => {
    const state = after(composed('c1'), { type: 'ack', id: 'c1', messageId: 'm2' })
    expect(state.outbox).toEqual([])
    expect(state.messages).toMatchObject([{ id: 'm2', clientId: 'c1', provisional: true }])
    expect(state.lastId).toBeNull()
  })

  it('moves an acknowledged message to its place in the server’s order', () => {
    const state = after(
      composed('c1'),
      { type: 'ack', id: 'c1', messageId: 'm2' },
      { type: 'message', message: message('m1') },
      { type: 'message', message: message('m2', 'c1') },
    )
    expect(ids(state)).toEqual(['m1', 'm2'])
    expect(state.lastId).toBe('m2')
  })

  it('takes the message itself for its acknowledgement, whichever comes first', () => {
    const state = after(
      composed('c1'),
      { type: 'message', message: message('m1', 'c1') },
      { type: 'ack', id: 'c1', messageId: 'm1' },
    )
    expect(ids(state)).toEqual(['m1'])
    expect(state.outbox).toEqual([])
  })

  it('ignores a message that comes again later', () => {
    const seen = after(
      { type: 'message', message: message('m1') },
      { type: 'message', message: message('m2') },
    )
    expect(reduce(seen, { type: 'frame', frame: { type: 'message', message: message('m1') } })).toBe(seen)
  })

  it('keeps a refused message with its reason and does not send it again', () => {
    const refusal = { code: 'too_long', detail: 'Too long.' }
    const state = after(composed('c1'), composed('c2'), { type: 'error', ...refusal, id: 'c1', retryAfterS: null })
    expect(state.outbox[0]).toMatchObject({ id: 'c1', refusal })
    expect(unsent(state).map(({ id }) => id)).toEqual(['c2'])
  })

  it('starts anew on a reset but keeps what was not delivered', () => {
    const state = after(
      { type: 'message', message: message('m1') },
      composed('c1'),
      { type: 'welcome', visitor: 'v2', messages: [message('m9')], reset: true, heading },
    )
    expect(ids(state)).toEqual(['m9'])
    expect(unsent(state).map(({ id }) => id)).toEqual(['c1'])
    expect(state.visitor).toBe('v2')
  })

  it('asks how it was once, whatever the server tells again', () => {
    const asked: ServerFrame = { type: 'question', question: { id: 'q1', until: '2026-01-01T00:00:00Z' } }
    expect(after(asked).question?.id).toBe('q1')
    expect(after(asked, { type: 'question', question: null }).question).toBeNull()
    for (const answer of [composed('c1'), { type: 'waved' } as const]) {
      const state = after(asked, answer, asked)
      expect(state).toMatchObject({ question: null, answered: 'q1' })
      const next: ServerFrame = { type: 'question', question: { id: 'q2', until: '2026-01-02T00:00:00Z' } }
      expect(reduce(state, { type: 'frame', frame: next }).question?.id).toBe('q2')
    }
  })

  it('does not know what is asked before a new connection tells', () => {
    const asked: ServerFrame = { type: 'question', question: { id: 'q1', until: '2026-01-01T00:00:00Z' } }
    const state = after(asked, { type: 'welcome', visitor: 'v', messages: [], reset: false, heading })
    expect(state).toMatchObject({ question: null, answered: null })
  })

  it('takes no more messages than the outbox holds', () => {
    const events = Array.from({ length: MAX_OUTBOX_MESSAGES + 1 }, (_, index) => composed(`c${index}`))
    expect(after(...events).outbox).toHaveLength(MAX_OUTBOX_MESSAGES)
  })
})

/** A server that stores each client id once and a network that loses, repeats and delays frames. */
class World {
  readonly log: Message[] = []
  readonly written: string[] = []
  private readonly storage = conversationStorage(memoryStorage(), 'token')
  private client: Conversation = emptyConversation
  private up: (() => void)[] = []
  private down: ServerFrame[] = []

  /** `echoes`: a page also hears what it wrote itself, not only the acknowledgement. */
  constructor(private readonly echoes: boolean) {}

  act(action: Action): void {
    switch (action.kind) {
      case 'write':
        this.write()
        break
      case 'answer':
        this.publish(message(`m${this.log.length}`))
        break
      case 'up':
        this.up.shift()?.()
        break
      case 'down':
        this.deliver(action.repeat)
        break
      case 'reorder':
        this.reorder()
        break
      case 'reconnect':
        this.connect()
        break
      case 'reload':
        this.client = this.storage.load()
        this.connect()
    }
  }

  settle(): Conversation {
    this.connect()
    while (this.up.length + this.down.length > 0) {
      while (this.down.length > 0) this.deliver(false)
      this.up.shift()?.()
    }
    return this.client
  }

  connect(): void {
    const { lastId } = this.client
    this.up = []
    const position = this.log.findIndex(({ id }) => id === lastId)
    const messages = this.log.slice(position + 1)
    this.down = [{ type: 'welcome', visitor: 'v', messages, reset: lastId === null, heading }]
  }

  private write(): void {
    const id = `c${String(this.written.length).padStart(4, '0')}`
    this.written.push(id)
    this.apply(composed(id))
    this.send(id)
  }

  private send(id: string): void {
    this.up.push(() => {
      const known = this.log.find(({ clientId }) => clientId === id)
      const stored = known ?? message(`m${this.log.length}`, id)
      if (!known && this.echoes) this.publish(stored)
      else if (!known) this.log.push(stored)
      this.down.push({ type: 'ack', id, messageId: stored.id })
    })
  }

  private publish(published: Message): void {
    this.log.push(published)
    this.down.push({ type: 'message', message: published })
  }

  private deliver(repeat: boolean): void {
    const frame = this.down.shift()
    if (!frame) return
    this.apply({ type: 'frame', frame })
    if (repeat && frame.type !== 'welcome') this.down.push(frame)
    if (frame.type === 'welcome') for (const { id } of unsent(this.client)) this.send(id)
  }

  /** Acknowledgements come from another place than messages, so they may overtake them. */
  private reorder(): void {
    const index = this.down.findIndex(({ type }) => type === 'ack')
    if (index < 0 || this.down[0]?.type === 'welcome') return
    this.down.unshift(...this.down.splice(index, 1))
  }

  private apply(event: ConversationEvent): void {
    const next = reduce(this.client, event)
    this.storage.save(this.client, next)
    this.client = next
    const shown = next.messages.map(({ id }) => id)
    expect(new Set(shown).size).toBe(shown.length)
    const own = [...next.messages.map(({ clientId }) => clientId), ...next.outbox.map(({ id }) => id)]
    const written = own.filter((id) => id !== null)
    expect(new Set(written).size).toBe(written.length)
  }
}

type Action =
  | { kind: 'write' | 'answer' | 'up' | 'reorder' | 'reconnect' | 'reload' }
  | { kind: 'down'; repeat: boolean }

const anyAction: fc.Arbitrary<Action> = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom<Action>({ kind: 'write' }, { kind: 'answer' }) },
  { weight: 6, arbitrary: fc.constant<Action>({ kind: 'up' }) },
  { weight: 9, arbitrary: fc.record({ kind: fc.constant('down' as const), repeat: fc.boolean() }) },
  { weight: 3, arbitrary: fc.constant<Action>({ kind: 'reorder' }) },
  { weight: 4, arbitrary: fc.constantFrom<Action>({ kind: 'reconnect' }, { kind: 'reload' }) },
)

describe('a conversation over a bad network', () => {
  function check(echoes: boolean, actions: Action[]): { shown: string[]; stored: string[] } {
    const world = new World(echoes)
    world.connect()
    for (const action of actions) world.act(action)
    const client = world.settle()
    expect(client.outbox).toEqual([])
    const own = world.log.map(({ clientId }) => clientId).filter((id) => id !== null)
    expect(own.toSorted()).toEqual(world.written)
    return { shown: ids(client), stored: world.log.map(({ id }) => id) }
  }

  it('ends up with every message exactly once, in the server’s order', () => {
    fc.assert(
      fc.property(fc.array(anyAction, { maxLength: 80 }), (actions) => {
        const { shown, stored } = check(true, actions)
        expect(shown).toEqual(stored)
      }),
      { numRuns: 500 },
    )
  })

  it('ends up with every message exactly once when the server does not repeat our own', () => {
    fc.assert(
      fc.property(fc.array(anyAction, { maxLength: 80 }), (actions) => {
        const { shown, stored } = check(false, actions)
        expect(shown.toSorted()).toEqual(stored.toSorted())
      }),
      { numRuns: 500 },
    )
  })

  it('keeps the server’s order without repeats as long as nothing overtakes', () => {
    const ordered = anyAction.filter((action) => action.kind !== 'reorder')
    fc.assert(
      fc.property(fc.array(ordered, { maxLength: 80 }), (actions) => {
        const { shown, stored } = check(false, actions)
        expect(shown).toEqual(stored)
      }),
      { numRuns: 500 },
    )
  })
})
