/** Finding what was said. */

import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import type { Page } from '../../api/types'
import { endOfDay, startOfDay } from '../../ui/time'
import type { Asked } from './asked'

export type Found = Schemas['FoundMessageOut']

/** Pages of which the server found nothing fitting in what it looked through; then a person says go on. */
const MAX_EMPTY_PAGES = 5

export async function searchMessages(asked: Asked, cursor: string | null, signal: AbortSignal): Promise<Page<Found>> {
  let next = cursor
  for (let page = 1; ; page += 1) {
    const query = {
      text: asked.text,
      since: startOfDay(asked.from),
      until: endOfDay(asked.to),
      contact_id: asked.contact?.id ?? null,
      channel_id: asked.channelId || null,
      member_id: asked.memberId || null,
      cursor: next,
    }
    const found = await api.get('/messages/search', { query, signal })
    next = found.next ?? null
    if (found.items.length > 0 || next === null || page === MAX_EMPTY_PAGES) return found
  }
}
