/** The installed kinds of channel, their titles in the reader's language. */

import { computed } from 'vue'
import type { ComputedRef } from 'vue'
import { useI18n } from 'vue-i18n'
import type { Resource } from '../../async/resource'
import { useResource } from '../../async/resource'
import { listKinds } from './api'
import { titleOf } from './kinds'
import type { Kind } from './kinds'

export interface Kinds extends Pick<Resource<Kind[]>, 'state' | 'error' | 'reload'> {
  kinds: ComputedRef<Kind[]>
  titleOf: (name: string) => string
  choices: ComputedRef<{ value: string; label: string }[]>
}

export function useKinds(): Kinds {
  const { locale } = useI18n()
  const { state, error, data, reload } = useResource(listKinds)
  const kinds = computed(() => data.value ?? [])
  const title = (name: string): string => titleOf(kinds.value, name, locale.value.startsWith('zh'))
  const choices = computed(() => kinds.value.map(({ name }) => ({ value: name, label: title(name) })))
  return { state, error, kinds, reload, titleOf: title, choices }
}
