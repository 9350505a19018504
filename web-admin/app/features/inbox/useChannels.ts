/** The tenant's channels, for narrowing the inbox down; loaded when somebody wants to choose. */

import { computed } from 'vue'
import { api } from '../../api/api'
import type { Channel } from '../../api/types'
import { useResource } from '../../async/resource'

/** Bots whose channels are offered, and channels of each. */
const MAX_BOTS = 50
const limit = 50

async function listAll(signal: AbortSignal): Promise<Channel[]> {
  const { items: bots } = await api.get('/instances', { query: { limit: MAX_BOTS }, signal })
  const pages = await Promise.all(
    bots.map(({ id }) =>
      api.get('/instances/{instance_id}/channels', { path: { instance_id: id }, query: { limit }, signal }),
    ),
  )
  return pages.flatMap(({ items }) => items)
}

export function useChannels() {
  const resource = useResource(listAll)
  const channels = computed(() => resource.data.value ?? [])
  let isAsked = false

  function load(): void {
    if (isAsked && resource.error.value === null) return
    isAsked = true
    void resource.reload()
  }

  return { channels, load }
}
