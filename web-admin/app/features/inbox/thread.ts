/** What a thread shows, out of what the server and the stream say; pure. */

import type { Message, Page } from '../../api/types'

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

/** Whether the bot has something to answer: the contact spoke last and no turn has ended since. */
export function botOwesAnswer(owner: string, newest: Message | undefined, endedThrough: number): boolean {
  return owner === 'bot' && newest?.sender.kind === 'contact' && newest.number > endedThrough
}
