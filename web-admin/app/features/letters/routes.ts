import type { RouteRecordRaw } from 'vue-router'

export const lettersRoutes: RouteRecordRaw[] = [
  {
    path: 'dead-letters',
    name: 'letters',
    component: () => import('./LettersPage.vue'),
    meta: {
      audience: 'member',
      permission: 'conversations.read',
      nav: { group: 'company', order: 50, label: 'nav.letters' },
    },
  },
]
