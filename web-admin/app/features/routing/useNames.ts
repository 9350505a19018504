/** What colleagues are called: their name, or the address of who gave none. */

import { computed, onMounted } from 'vue'
import { useResource } from '../../async/resource'
import { signedIn } from '../../signedIn'
import { listMembers } from '../team/api'
import type { Member } from '../team/api'

/** Pages that are looked through; others are shown as their routes call them. */
const MAX_PAGES = 20

async function listAll(signal: AbortSignal): Promise<Member[]> {
  const members: Member[] = []
  let cursor: string | null = null
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const { items, next }: { items: Member[]; next?: string | null } = await listMembers(cursor, signal)
    members.push(...items)
    cursor = next ?? null
    if (cursor === null) break
  }
  return members
}

export function useNames() {
  const resource = useResource(listAll)
  const names = computed(() => new Map((resource.data.value ?? []).map(({ id, name, email }) => [id, name || email])))

  onMounted(() => {
    if (signedIn.may('members.read')) void resource.reload()
  })

  return (id: string | null): string | undefined => (id === null ? undefined : names.value.get(id))
}
