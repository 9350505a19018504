/** What a thread shows, out of what the server and the stream say; pure. */

import type { Schemas } from '../../api/paths'
import type { Message, Page } from '../../api/types'

export type Note = Schemas['NoteOut']
export type Transfer = Schemas['TransferOut']

/** What stands in a thread: what was said, and between it what only members see. */
export type Entry =
  | { readonly key: string; readonly kind: 'message'; readonly message: Message }
  | { readonly key: string; readonly kind: 'note'; readonly note: Note }
  | { readonly key: string; readonly kind: 'transfer'; readonly transfer: Transfer }
  | { readonly key: string; readonly kind: 'unread' }
  | { readonly key: string; readonly kind: 'answering' }

/** A note or a transfer, behind the message where it stands. */
interface Aside {
  readonly number: number
  readonly at: string
  readonly entry: Entry
}

function asidesOf(notes: readonly Note[], transfers: readonly Transfer[]): Aside[] {
  return [
    ...notes.map((note) => ({
      number: note.after_number ?? 0,
      at: note.created_at,
      entry: { key: note.id, kind: 'note' as const, note },
    })),
    ...transfers.map((transfer) => ({
      number: transfer.number,
      at: transfer.created_at,
      entry: { key: transfer.id, kind: 'transfer' as const, transfer },
    })),
  ].toSorted((one, other) => one.number - other.number || Date.parse(one.at) - Date.parse(other.at))
}

/**
 * Messages from the oldest on, notes and transfers behind the message that was the newest then, and a
 * line above the first that the member has not seen. What stands before the oldest message that is
 * loaded comes with the older ones; what stands from `until` on, with the newer ones.
 */
export function entriesOf(
  messages: readonly Message[],
  notes: readonly Note[],
  transfers: readonly Transfer[],
  { seenNumber, hasOlder, until = Infinity }: { seenNumber: number; hasOlder: boolean; until?: number },
): Entry[] {
  const from = hasOlder ? (messages[0]?.number ?? 0) : 0
  const asides = asidesOf(notes, transfers).filter(({ number }) => number >= from && number < until)
  const firstUnseen = messages.find(({ number, sender }) => number > seenNumber && sender.kind === 'contact')
  const entries: Entry[] = []
  let next = 0
  const putAsides = (before: number) => {
    for (let aside = asides[next]; aside && aside.number < before; aside = asides[next]) {
      entries.push(aside.entry)
      next += 1
    }
  }
  for (const message of messages) {
    putAsides(message.number)
    if (message === firstUnseen && entries.length > 0) entries.push({ key: 'unread', kind: 'unread' })
    entries.push({ key: message.id, kind: 'message', message })
  }
  putAsides(Infinity)
  return entries
}

/** The last of the notes as the server has them in order. */
export function lastNote(notes: readonly Note[]): Note | undefined {
  return notes.toSorted(
    (one, other) => (one.after_number ?? 0) - (other.after_number ?? 0) || (one.id < other.id ? -1 : 1),
  ).at(-1)
}

/** The colleague who answered last behind what somebody had seen. */
export function answeredSince(messages: readonly Message[], seenNumber: number, me: string | null): string | null {
  const last = messages.findLast(
    ({ number, sender }) => number > seenNumber && sender.kind === 'human' && sender.id !== me,
  )
  return last?.sender.name ?? null
}

export function holdsMedia(messages: readonly Message[], mediaId: unknown): boolean {
  return messages.some(({ segments }) =>
    segments.some((segment) => 'ref' in segment && segment.ref?.id === mediaId),
  )
}

interface DeliveryChange {
  message_id: string
  state: string
  error_class: string | null
}

/** How a message fares; a change that is none keeps the page as it is. */
export function withDelivery(page: Page<Message>, change: DeliveryChange): Page<Message> {
  const isNews = page.items.some(
    ({ id, delivery }) =>
      id === change.message_id &&
      (delivery?.state !== change.state || delivery.error_class !== change.error_class),
  )
  if (!isNews) return page
  const items = page.items.map((message) =>
    message.id === change.message_id
      ? {
          ...message,
          delivery: { attempts: 1, ...message.delivery, state: change.state, error_class: change.error_class },
        }
      : message,
  )
  return { ...page, items }
}

/** A message that the server has just taken, once. */
export function withMessage(page: Page<Message>, message: Message): Page<Message> {
  return page.items.some(({ id }) => id === message.id) ? page : { ...page, items: [message, ...page.items] }
}

export function oldestFirst(page: Page<Message> | null): Message[] {
  return (page?.items ?? []).toSorted((one, other) => one.number - other.number)
}

/** The turn that a message of the bot comes from: the last that had read everything before it. */
export function turnOf<T extends { through_number: number }>(turns: readonly T[], number: number): T | undefined {
  return turns
    .filter(({ through_number: through }) => through < number)
    .toSorted((one, other) => other.through_number - one.through_number)[0]
}

/** Stands behind everything while a model talks. */
export const ANSWERING: Entry = { key: 'answering', kind: 'answering' }

/** Whether an answer to the messages up to a number is still to become a message. */
export function isToCome(owner: string, messages: readonly Message[], throughNumber: number): boolean {
  const answers = messages.filter(({ number, sender }) => number > throughNumber && sender.kind !== 'contact')
  return owner === 'bot' && answers.length === 0 && messages.at(-1)?.sender.kind === 'contact'
}

/** Whether the bot has something to answer: the contact spoke last and no turn has ended since. */
export function botOwesAnswer(owner: string, newest: Message | undefined, endedThrough: number): boolean {
  return owner === 'bot' && newest?.sender.kind === 'contact' && newest.number > endedThrough
}
