/** What all parts of the inbox share: the colleagues, and the tenant's tags. */

import { computed, inject, onMounted, provide } from 'vue'
import type { ComputedRef, InjectionKey } from 'vue'
import { api } from '../../api/api'
import type { Schemas } from '../../api/paths'
import { useChanges } from '../../async/changes'
import { useResource } from '../../async/resource'
import { signedIn } from '../../signedIn'

export type Member = Schemas['MemberOut']
export type Tag = Schemas['TagOut']

interface Desk {
  members: ComputedRef<readonly Member[]>
  tags: ComputedRef<readonly Tag[]>
  /** Oneself, as customers are told. */
  ownName: ComputedRef<string>
  nameOf: (memberId: string | null) => string
  reloadTags: () => Promise<void>
}

/** The server's largest page, which holds all tags; of members the first are offered. */
const limit = 200
const KEY: InjectionKey<Desk> = Symbol('desk')

export function provideDesk(): Desk {
  const people = useResource((signal) => api.get('/members', { query: { limit }, signal }))
  const labels = useResource((signal) => api.get('/tags', { query: { limit }, signal }))
  const members = computed(() =>
    (people.data.value?.items ?? []).map((one) => ({ ...one, name: one.name || one.email.replace(/@.*$/, '') })),
  )
  const tags = computed(() => labels.data.value?.items ?? [])
  const nameOf = (memberId: string | null) => members.value.find(({ id }) => id === memberId)?.name ?? ''
  const ownName = computed(() => nameOf(signedIn.me.value?.member_id ?? null))

  useChanges(['member.changed'], people.refresh)
  useChanges(['tag.changed'], labels.refresh)
  onMounted(() => Promise.all([people.reload(), labels.reload()]))

  const desk = { members, tags, ownName, nameOf, reloadTags: labels.refresh }
  provide(KEY, desk)
  return desk
}

export function useDesk(): Desk {
  const desk = inject(KEY)
  if (!desk) throw new Error('outside of the inbox')
  return desk
}
