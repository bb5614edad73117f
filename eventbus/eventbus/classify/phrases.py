"""What messages state, most telling first: a lock's timeout before a timeout, what passes before what stays.

Each entry has the kind, the words of which one must be there for the phrase to be asked, and the phrase.
"""

from __future__ import annotations

from eventbus.classify.kinds import Kind

_BE = r"(?:is|was|are|were|has been|have been|had been|got|been|being)"
_ADV = r"(?:temporarily |currently |not |still |already |now |momentarily |too |presently )*"
_PARTY = (
    r"(?:service|server|host|backend|broker|node|database|upstream|gateway|system|endpoint|api|"
    r"cluster|provider|resource|site)"
)

PHRASES: tuple[tuple[Kind, str, str], ...] = (
    (
        Kind.CONTENTION,
        "lock locked locking locks deadlock deadlocked nowait",
        (
            r"lock wait time-?out|deadlock(?:ed)?\b|(?:database|table|row|record|file|resource|"
            r"schema)(?: \S+)? is (?:already )?locked|"
            r"(?:could not|cannot|can't|couldn't|unable to|failed to|did not) (?:obtain|acquire|get|take|"
            r"lock)(?: \w+){0,3} ?lock|"
            r"lock (?:timeout|timed out|not available|not acquired|request time)|(?:is|already|"
            r"currently) (?:locked|leased|claimed) by|"
            r"lock (?:is )?(?:already )?held|due to lock timeout|lock on .{0,60} (?:timed out|not)"
        ),
    ),
    (
        Kind.CONTENTION,
        "serialize restart conflict concurrent concurrently another stale optimistic modified progress busy",
        (
            r"could not serialize|restart transaction|write ?conflict|concurrent (?:update|modification|"
            r"write|access|transaction)|"
            r"(?:modified|updated|changed|processed|edited) (?:concurrently|by another|by someone else|"
            r"since (?:it|you|we|last))|"
            r"another (?:process|transaction|operation|worker|request|instance|job|migration) (?:is|has|"
            r"holds|already)|"
            r"(?:device or )?resource busy|stale (?:object|version|row|data|element|read)|optimistic lock|"
            r"already (?:in progress|being processed|running)|(?:operation|update|rebalance|sync|"
            r"transaction) (?:is )?(?:already )?in progress"
        ),
    ),
    (
        Kind.QUOTA_EXCEEDED,
        "quota quotas credit credits budget limit plan allowance billing",
        (
            rf"(?:quotas?|(?:usage|monthly|daily|weekly|yearly|credit|plan|spending|billing|storage|"
            rf"account|free tier|hard) (?:limit|cap|allowance|quota|"
            rf"budget)s?)(?: \S+){{0,6}} {_BE}?(?: \S+){{0,2}} ?(?:exceeded|exhausted|reached|used up|"
            rf"depleted|overdrawn|hit)\b|"
            r"(?:exceed(?:ed|s|ing)?|exhausted|reached|used up|over|hit|ran out of|"
            r"depleted) (?:\S+ ){0,5}(?:quota|(?:usage|monthly|daily|spending|plan|billing|"
            r"credit) (?:limit|cap|quota|allowance)|credits|budget|allowance)\b|"
            r"(?:insufficient|out of|no more|not enough|no) (?:quota|credits?|budget)\b(?! (?:card|table|"
            r"check))|credit balance is too low|"
            r"check your plan and billing|upgrade your plan"
        ),
    ),
    (
        Kind.RATE_LIMIT,
        "rate ratelimit throttled throttling requests throttle slow ratelimited limit frequently",
        (
            rf"rate[ -]?limit(?:s|ed|ing)?(?: \S+){{0,4}} {_BE}? ?(?:exceeded|reached|hit|applied|"
            rf"in effect|triggered)\b|(?:exceed(?:ed|s)?|hit|reached|over|by) (?:\S+ ){{0,4}}"
            rf"rate[ -]?limits?\b|"
            rf"{_BE} (?:being )?(?:rate[ -]?limited|throttled)|rate[ -]?limited\b|"
            rf"too many (?:\w+ )?(?:requests|calls|attempts|messages)\b|(?:request|call|"
            rf"operation)s? (?:was |were |has been )?throttled|"
            r"throttling (?:exception|error)|request limit (?:was |is |has been )?(?:exceeded|reached)|"
            r"(?:please )?slow down\b|requests too frequently"
        ),
    ),
    (
        Kind.RESOURCE,
        "memory space disk files connections pool slots thread resources clients descriptors capacity",
        (
            r"out of (?:shared )?(?:memory|disk space|disk|file descriptors|resources|swap)|(?:cannot|"
            r"can't|could not|unable to|failed to) allocate|no space left|"
            r"(?:disk|filesystem|volume|tablespace|table) (?:\S+ )?(?:is )?full|too many (?:open files|"
            r"connections|clients|processes|open connections)|"
            r"connections? slots (?:are|is)|(?:connection )?pool (?:is |has been |was )?(?:exhausted|full|"
            r"depleted)|pool exhausted|"
            r"(?:can't|cannot|could not) start new thread|(?:not enough|insufficient) (?:memory|disk|"
            r"resources|space|capacity|storage)|memory limit|"
            r"max(?:imum)? number of (?:clients|connections) (?:\w+ )?reached|too many clients|"
            r"memory allocation (?:failed|error)"
        ),
    ),
    (
        Kind.TIMEOUT,
        "timed timedout",
        (
            r"timed[ -]?out\b(?! (?:value|must|setting|option|flag|field|column|state|status|orders|items|"
            r"table))"
        ),
    ),
    (
        Kind.TIMEOUT,
        "timeout timeouts deadline",
        (
            r"(?:timeout|time-out|deadline)(?: of \S+(?: \w+)?)? (?:\w+ )?(?:exceeded|expired|reached|"
            r"occurred|elapsed|hit|passed|error|waiting|while|when|after|during|on|fired|triggered|"
            r"to)\b(?! (?:value|must|setting|parse|read config))|"
            r"(?:statement|read|write|connect|connection|request|response|socket|gateway|operation|query|"
            r"pool|execution|upstream|server|service|client|network|wait|acquire|handshake|i/o|io|session|"
            r"dns|poll|call|backend|provider|lookup) time-?out\b(?! (?:value|must|parameter|setting|option|"
            r"config\w*|should|of|=|: ?-?\d|field|has to|needs|for|in|not|cannot|can't|policy|table|"
            r"is (?:not|too|invalid|neg|set)))|"
            r"(?:exceed(?:ed|s)?|hit|reached|past|missed) (?:\S+ ){0,3}(?:timeout|deadline)\b|"
            r"^(?:a )?time-?out[.!]?$|time-?out(?:error)?: |due to (?:a )?time-?out"
        ),
    ),
    (
        Kind.TIMEOUT,
        "long time within slow respond answer",
        (
            r"(?:took|taking) too long|(?:did not|didn't|has not|failed to|not) (?:respond|answer|reply|"
            r"complete|finish|return|become \w+)(?:ed|d)?(?: \w+)? (?:in time|within|after)|"
            r"no (?:response|answer|reply)(?: \w+){0,4} (?:within|after|in time)|time limit (?:was |is |"
            r"has been )?(?:exceeded|reached)|exceeded (?:\S+ ){0,2}time limit|too slow to (?:respond|"
            r"answer)|execution time (?:was |is )?exceeded"
        ),
    ),
    (
        Kind.UNAVAILABLE,
        (
            "unavailable later maintenance overloaded down ready shutting starting busy circuit again "
            "offline available loading recovering brokers broker leader"
        ),
        (
            rf"(?:{_BE} |{_PARTY}s? |temporarily |currently ){_ADV}(?:unavailable|overloaded|offline|"
            rf"not available|out of service)\b|service unavailable|try(?: your request)? again(?: later|"
            rf" in| after| shortly|\.|$)|retry (?:your request )?later|"
            rf"(?:under|down for|undergoing|for|in|scheduled) (?:\w+ )?maintenance|overloaded\b|"
            rf"{_PARTY}s? (?:\S+ )?(?:is|are|seems|appears) {_ADV}down\b|(?:is|are) not (?:yet )?ready\b|"
            rf"shutting down|starting up|"
            rf"(?:{_PARTY} |{_BE} |too ){_ADV}busy\b|circuit(?: breaker)?(?: \S+){{0,3}} (?:is )?open\b|"
            rf"no (?:\w+ )?(?:brokers?|leader|hosts?|servers?|nodes?) (?:\w+ )?available|"
            rf"nobrokersavailable|in recovery mode|at capacity"
        ),
    ),
    (
        Kind.BUG,
        "closed illegal",
        (
            r"on (?:a )?closed (?:file|database|cursor|session)|(?:client|session|executor|pool) "
            r"(?:has been|is) (?:already )?closed|illegal in state"
        ),
    ),
    (
        Kind.PERMISSION,
        "certificate cert",
        (
            r"certificate[ _]verify[ _]failed|certificate (?:verification|validation) failed|"
            r"(?:self[- ]signed|untrusted|expired|invalid|revoked) certificate|certificate (?:has expired|"
            r"is not trusted|unknown|required|is not valid)|unable to get (?:local )?issuer"
        ),
    ),
    (
        Kind.PERMISSION,
        "authentication denied login pg_hba",
        (
            r"(?:password|sasl|ident|peer|ldap|gssapi|\w+-sha-256) authentication failed|"
            r"authentication failed for|"
            r"access denied for (?:user|role)|login failed for|no pg_hba\.conf entry"
        ),
    ),
    (
        Kind.CONNECTION,
        "connection connect connected connecting refused reset connections",
        (
            r"connections? (?:\S+ ){0,3}?(?:(?:was|has been|is|were|got|been|"
            r"attempt) )*(?:unexpectedly |forcibly |abruptly |already |prematurely |not )*(?:refused|"
            r"reset|closed|lost|aborted|dropped|terminated|broken|failed|failure|error|interrupted|"
            r"severed|shut ?down|open|dead|cut|died|gone)\b|"
            r"(?:could not|cannot|can't|can not|couldn't|failed to|unable to|did not|error while|error|"
            r"while|fail) (?:re)?connect(?:ing)?\b|(?:failed to|could not|unable to|cannot) (?:establish|"
            r"open|make)(?: \w+){0,3} connection|not connected\b|lost connection|no connection\b|"
            r"refused(?: the)? connection|connection reset|refused to connect|disconnected"
        ),
    ),
    (
        Kind.CONNECTION,
        (
            "network host route resolve resolution pipe peer socket name closed eof disconnected hang "
            "handshake reachable unreachable getaddrinfo dns gone reach remote terminated "
            "unexpectedly ssl tls"
        ),
        (
            r"name or service not known|name resolution|name does not resolve|getaddrinfo|"
            r"nodename nor servname|(?:could not|cannot|can't|unable to|failed to) (?:resolve|reach|"
            r"look up|translate) (?:\S+ ){0,4}?(?:host\w*|server|service|name|address|network|broker|dns|"
            r"endpoint|node)?|"
            r"no route to host|(?:network|host|destination|server|service|gateway|broker|"
            r"node)(?: \S+)? (?:is |was |are )?(?:currently )?(?:unreachable|not reachable|down)|"
            r"unreachable\b|broken pipe|"
            r"(?:server|peer|remote(?: host| end| side| server)?|client|other side|broker|host|"
            r"upstream) (?:\w+ )?(?:unexpectedly )?(?:closed|disconnected|hung up|reset|dropped|terminated|"
            r"has gone away|went away)|has gone away|"
            r"(?:socket|channel|stream|transport|session) (?:\w+ )?(?:is |was |has been )?(?:unexpectedly |"
            r"already )?(?:closed|hang ?up|hung up|disconnected|reset|broken|lost)|unexpected eof|"
            r"eof (?:occurred|while|received)|end of (?:file|stream)|"
            r"(?:ssl|tls) (?:handshake|negotiation|connection) (?:\w+ )?(?:failed|failure|error)|"
            r"handshake (?:failed|failure|error)|network (?:error|failure|problem|is down)|"
            r"disconnected (?:from|by|unexpectedly)|dns (?:lookup|resolution|error|failure)|hang ?up\b|"
            r"terminated unexpectedly|wrong version number"
        ),
    ),
    (
        Kind.BUG,
        (
            "table column relation function syntax attribute keyword argument nonetype assertion "
            "implemented loop awaited coroutine positional iteration undefined module unpack event "
            "reentrant generator futures"
        ),
        (
            r"no such (?:table|column|function|module)|unknown (?:column|table|function)|(?:table|column|"
            r"relation|function|type|schema|operator|database|view|procedure)(?: \S+)? (?:does not|"
            r"doesn't) exist|undefined (?:table|column|function|variable|name)|"
            r"syntax error|has no attribute|unexpected keyword|nonetype|assertion failed|"
            r"not (?:yet )?implemented|(?:event loop is|no running event loop)|event loop|"
            r"cannot reuse already awaited|was never awaited|positional argument|"
            r"changed size during iteration|(?:no|missing) module|to unpack|generator (?:raised|already)|"
            r"no column|cannot schedule new futures|invalid (?:column|object) name"
        ),
    ),
    (
        Kind.PERMISSION,
        (
            "permission permissions denied authorized authorised unauthorized unauthorised forbidden "
            "authentication login credentials password token authenticate privileges allowed key access "
            "expired authorization signature session auth"
        ),
        (
            r"(?:permission|access|authorization) (?:\S+ ){0,3}?(?:was |is |has been )?(?:denied|refused|"
            r"not granted|forbidden)|(?:denied|refused) access|not authori[sz]ed|unauthori[sz]ed\b|"
            r"(?:is |are )forbidden\b|(?:^|: ?|- |\d )forbidden(?=$|[.:;,!)]| (?:for|by|to|access))|"
            r"(?:authentication|authorization|login|auth|logon) (?:\S+ ){0,3}?(?:failed|failure|required|"
            r"error|rejected|denied|unsuccessful)|not authenticated|(?:failed|unable|could not|"
            r"cannot) to? ?(?:authenticate|log ?in)|"
            r"(?:invalid|incorrect|bad|wrong|expired|missing|no|unknown|rejected|"
            r"revoked) (?:\w+ )?(?:credentials?|api[ -]?key|password|(?:access |auth |bearer |refresh |id |"
            r"security )?token|username or password|signature|login|username/password)\b(?! (?:type|at|in|"
            r"while|count))|"
            r"(?:token|session|credentials?|password|api key|signature|key|login)s? (?:\S+ ){0,2}?(?:has |"
            r"have |is |are |was |were )?(?:expired|revoked|invalid|not valid|rejected|incorrect|wrong|"
            r"mismatch|does not match)\b|"
            r"(?:insufficient|lacks?|missing|no|not enough|without) (?:the )?(?:required )?(?:permissions?|"
            r"privileges?|scopes?|rights|access)|(?:not|isn't|aren't) (?:allowed|permitted) to|"
            r"(?:do|does)(?: not|n't) have (?:\w+ )?(?:permission|access|privilege)|"
            r"signature verification failed"
        ),
    ),
    (
        Kind.CONFLICT,
        (
            "exists duplicate unique violates constraint conflict conflicts conflicting taken use "
            "idempotency already"
        ),
        (
            r"already (?:exists?|registered|taken|in use|been (?:used|processed|registered|taken|paid|"
            r"created|refunded|cancell?ed|shipped)|used|paid|refunded|cancell?ed|shipped|exist|created|"
            r"subscribed|booked)|duplicate (?:key|entry|record|request|value|id|order|invoice|payment|"
            r"e?mail|user\w*|name|event|message|object|row|booking|\w+ id)\b|unique constraint|"
            r"violates|"
            r"constraint (?:failed|violat\w+)|violation of|conflict(?:s|ed|ing)? (?:with|detected|on|in|"
            r"when)|(?:version|edit|update|merge|write|scheduling|booking) conflict|idempotency key"
        ),
    ),
    (
        Kind.NOT_FOUND,
        "found such exist exists find known unknown gone longer no",
        (
            r"(?<!certificate )(?:not|n't be|never be|cannot be|n't) found\b|no such (?!luck)|(?:does not|"
            r"doesn't|do not|don't|did not|didn't) exist|(?:could not|cannot|can't|couldn't|unable to|"
            r"failed to) (?:find|locate)|no longer exists?|"
            r"no (?:\w+ )?(?:record|result|row|user|customer|order|item|entry|document|object|"
            r"matching \w+)s?(?: \w+)? (?:found|exists?|matches|with|for)\b|non-?existent|has been deleted|"
            r"unknown (?:user|customer|order|account|id|product|invoice|tenant|key|topic|queue)"
        ),
    ),
    (
        Kind.VALIDATION,
        (
            "invalid valid validation malformed must required parse decode parsed missing bad blank empty "
            "range unsupported large long short expected unexpected parsing exceeds positive negative "
            "illegal wrong mismatch corrupt corrupted format"
        ),
        (
            r"validation (?:\S+ ){0,3}?(?:failed|errors?)|(?:is|are|was|were) (?:not (?:a )?valid|invalid|"
            r"malformed|(?:a )?required|missing|corrupt(?:ed)?|(?:blank|empty) but)|(?:^|: ?|an? )(?:invalid|"
            r"malformed|illegal) \w+|invalid (?:[\w-]+ )?(?:value|input|argument|parameter|format|payload|"
            r"request|json|data|email|date|type|literal|option|setting|configuration|config|field|id|"
            r"identifier|address|number|url|xml|currency|amount|character|length|range|syntax|header|name|"
            r"phone|file|body|message|schema|state|enum|uuid|timestamp|iban|vat|zip|code)\b|"
            r"must (?:be|have|not|contain|match|start|end|provide|specify|include|equal|only)\b|"
            r"missing (?:required|mandatory|field|parameter|argument|value)|(?:could not|cannot|can't|"
            r"failed to|unable to|error|couldn't) (?:be )?(?:parse|decode|validate|convert|deserialize|"
            r"unmarshal|parsed|decoded|validated|converted|parsing|decoding)\b|"
            r"unexpected (?:token|character|end|type|value|field)|cannot be (?:empty|blank|null|negative|"
            r"none|zero)|(?:may not|should not|can't|must not) be (?:empty|blank|null|negative|none)|"
            r"out of range|too (?:large|long|short|big|small|many (?:fields|items|parameters|arguments|"
            r"values))|bad (?:request|format|value|input)|exceeds (?:the )?(?:max\w*|allowed|limit)|"
            r"expected .{1,60} (?:but )?(?:got|found|received|was)\b|not (?:a )?(?:valid|supported)|"
            r"unsupported (?:\w+ )?(?:type|format|media|value|currency|version|encoding)|parse error|"
            r"malformed\b"
        ),
    ),
    (
        Kind.EXTERNAL_API,
        (
            "upstream gateway internal response responded returned replied answered side backend status "
            "provider answer"
        ),
        (
            r"internal (?:server )?(?:error|failure)|bad gateway|upstream (?:\S+ ){0,3}?(?:error|failed|"
            r"failure|returned|responded|broke|crashed|is broken|reported)|(?:unexpected|bad|unreadable|"
            r"garbled|empty|malformed|incomplete|strange) (?:response|answer|reply|status)|"
            r"server error\b|(?:service|api|provider|server|gateway|backend|partner|"
            r"vendor)(?: \S+)? (?:returned|responded|answered|replied|reported|failed|"
            r"crashed)(?: with)? (?:an? )?(?:\w+ )?(?:error|failure|garbage|nonsense|unexpected\w*|"
            r"exception|fault|5\d\d)|(?:on|at) (?:our|their) (?:end|side)|backend error"
        ),
    ),
)
