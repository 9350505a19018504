/** The names of roles: those of every tenant have words, the tenant's own their names. */

import { useVocabulary } from '../../ui/vocabulary'
import { ROLES } from './api'
import type { Role } from './api'

export function useRoleNames(own: () => Role[]) {
  const word = useVocabulary()

  function nameOf(role: string): string {
    return own().find(({ id }) => id === role)?.name ?? word('roleName', role)
  }

  function choices(): { value: string; label: string }[] {
    const all = [...ROLES, ...own().map(({ id }) => id)]
    return all.map((value) => ({ value, label: nameOf(value) }))
  }

  return { nameOf, choices }
}
